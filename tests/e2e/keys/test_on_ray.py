"""Keys on a real Ray with two ingresses: unread bodies, revocation, crowds, and no secrets."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import ray
from ray import serve

from benchmarks.machine import free_port
from benchmarks.material.recordings import shuffled_meeting, wav_bytes
from clients.http import Client
from deployments.config import AppConfig
from deployments.core.errors import Unauthorized
from deployments.keys import store
from deployments.keys.listening import listening_host
from deployments.keys.records import SCOPES, Key, KeyLimits
from deployments.keys.secrets import hash_of, new_id, new_key
from deployments.keys.sources import opened
from deployments.serve import running
from deployments.service_settings import Storage

pytestmark = pytest.mark.ray

PATH = "/v1/audio/transcriptions"
CROWD = 50
HALF_A_GB = 500_000_000
PIECE = bytes(256 * 1024)
TEN_S = wav_bytes(shuffled_meeting(10_000, seed=0))


@dataclass
class Guarded:
    """A running service that needs keys, and what was shown to it."""

    url: str
    folder: Path
    shown: list[str]

    def add(self, *, scopes: tuple[str, ...] = SCOPES, **limits: float) -> tuple[str, str]:
        """The id and the text of a new key, which every ingress knows by now."""
        id = new_id()
        text = new_key(id)
        kept = KeyLimits(**limits)  # type: ignore[arg-type]
        key = Key(id=id, name=f"name of {id}", hash=hash_of(text), scopes=scopes, limits=kept)
        self._in_database(lambda engine: store.add(engine, key, time.time()))
        self.shown.append(text)
        time.sleep(4)
        return id, text

    def revoke(self, id: str) -> None:
        self._in_database(lambda engine: store.revoke(engine, id, time.time()))

    def _in_database(self, work: Any) -> None:
        async def run() -> None:
            engine = await opened(Storage(data_dir=self.folder))
            await work(engine)
            await engine.dispose()

        asyncio.run(run())

    def status(self, key: str) -> int:
        headers = {"Authorization": f"Bearer {key}"}
        return httpx.get(f"{self.url}/v1/models", headers=headers, timeout=60).status_code

    def send(self, key: str) -> httpx.Response:
        """A recording of ten seconds."""
        return httpx.post(
            f"{self.url}{PATH}",
            headers={"Authorization": f"Bearer {key}"},
            files={"file": ("a.wav", TEN_S)},
            timeout=120,
        )

    def open(self, key: str, n_bytes: int) -> socket.socket:
        """A connection on which a request has begun, with the head of an upload."""
        place = urlsplit(self.url)
        connection = socket.create_connection((place.hostname, place.port), timeout=60)
        head = (
            f"POST {PATH} HTTP/1.1\r\nHost: service\r\nAuthorization: Bearer {key}\r\n"
            f"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: {n_bytes}\r\n\r\n"
        )
        connection.sendall(head.encode())
        return connection

    def audit(self) -> list[tuple[str, dict[str, Any]]]:
        """The log file and the content of every audit line."""
        lines = [
            (path.name, line.partition("-- ")[2])
            for path in sorted(logs().glob("serve/replica_default_Ingress_*.log"))
            for line in path.read_text("utf-8").splitlines()
            if '"bytes_in"' in line
        ]
        return [(name, json.loads(line)) for name, line in lines]


def logs() -> Path:
    """Where Ray and Serve log."""
    return Path(ray._private.worker._global_node.get_logs_dir_path())  # type: ignore[attr-defined]


def status_of(connection: socket.socket, wait_s: float) -> int | None:
    """The status of the answer. None if there is none yet."""
    connection.settimeout(wait_s)
    try:
        return int(connection.recv(4096).split(b" ", 2)[1])
    except TimeoutError:
        return None


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("state")
    config = AppConfig.model_validate(
        {
            "models": {"vad": "fake:vad", "asr": "fake:asr", "punctuation": "fake:punctuation"},
            "keys": {"database": True},
            "storage": {"data_dir": str(folder)},
            "ingress": {"min_replicas": 2, "max_replicas": 2},
        }
    )
    with running(config, port=free_port(), num_cpus=8) as url:
        yield Guarded(url, folder, [])


def test_nothing_of_half_a_gigabyte_is_read_without_a_key(guarded: Guarded) -> None:
    began_s, n_sent = time.monotonic(), 0
    with guarded.open(new_key(new_id()), HALF_A_GB) as connection:
        connection.settimeout(0.5)
        with suppress(OSError):
            while n_sent < HALF_A_GB:
                n_sent += connection.send(PIECE)
        took_s = time.monotonic() - began_s
    httpx.post(f"{guarded.url}{PATH}", content=PIECE)

    refused = [line for _, line in guarded.audit() if line["status"] == 401]
    print(f"{n_sent / 1e6:.1f} MB left the client in {took_s:.2f} s")
    assert n_sent < 16_000_000  # what the buffers of two sockets hold
    assert took_s < 3
    assert [line["bytes_in"] for line in refused] == [0, 0]


def test_a_revoked_key_is_refused_everywhere_within_five_seconds(guarded: Guarded) -> None:
    id, key = guarded.add()
    before = Counter(guarded.status(key) for _ in range(40))

    guarded.revoke(id)
    revoked_s = time.monotonic()
    while guarded.status(key) == 200:
        time.sleep(0.05)
    first_s = time.monotonic() - revoked_s
    time.sleep(max(0.0, 5 - first_s))
    after = Counter(guarded.status(key) for _ in range(40))

    print(f"The first refusal came after {first_s:.1f} s")
    asked = {name for name, line in guarded.audit() if line["key"] == id}
    assert (before, after) == ({200: 40}, {401: 40})
    assert len(asked) == 2
    assert first_s < 5


def test_fifty_clients_at_once_get_four_places(guarded: Guarded) -> None:
    _, key = guarded.add(max_concurrent=4)

    with ExitStack() as stack, ThreadPoolExecutor(CROWD) as pool:
        crowd = [stack.enter_context(guarded.open(key, 1000)) for _ in range(CROWD)]
        statuses = Counter(pool.map(lambda one: status_of(one, 5), crowd))

    time.sleep(1)
    again = [guarded.send(key).status_code for _ in range(3)]
    assert statuses == {429: CROWD - 4, None: 4}
    assert again == [200] * 3  # those that hung up have given their places back


def test_the_places_are_still_taken_when_another_replica_counts_them(guarded: Guarded) -> None:
    _, key = guarded.add(max_concurrent=2)

    with ExitStack() as stack:
        held = [stack.enter_context(guarded.open(key, 1000)) for _ in range(2)]
        assert [status_of(one, 2) for one in held] == [None, None]
        replicas = [a for a in ray.util.list_named_actors(True) if "#Keys#" in a["name"]]
        ray.kill(ray.get_actor(replicas[0]["name"], namespace="serve"))
        with ThreadPoolExecutor(8) as pool:
            meanwhile = Counter(r.status_code for r in pool.map(guarded.send, [key] * 8))

    assert meanwhile == {429: 8}


def test_fifty_clients_at_once_get_a_minute_of_audio(guarded: Guarded) -> None:
    _, key = guarded.add(audio_s_per_minute=60)

    began_s = time.monotonic()
    with ThreadPoolExecutor(CROWD) as pool:
        answers = list(pool.map(guarded.send, [key] * CROWD))
    took_s = time.monotonic() - began_s

    statuses = Counter(answer.status_code for answer in answers)
    waits = [int(a.headers["retry-after"]) for a in answers if a.status_code == 429]
    print(f"{statuses} in {took_s:.1f} s; waits from {min(waits)} to {max(waits)} s")
    assert set(statuses) == {200, 429}
    assert 6 <= statuses[200] <= 7 + took_s / 10
    assert max(waits) <= 20


def test_usage_is_charged_to_its_key(guarded: Guarded) -> None:
    id, key = guarded.add(scopes=("transcribe",))

    with Client(guarded.url, api_key=key) as client:
        client.transcribe(TEN_S)
        list(client.stream(TEN_S))
    with pytest.raises(Unauthorized), Client(guarded.url) as client:
        client.models()
    time.sleep(4)
    answer = httpx.get(f"{guarded.url}/v1/usage", headers={"Authorization": f"Bearer {key}"})

    (row,) = answer.json()["data"]
    assert (row["key"], row["model"], row["audio_s"], row["requests"]) == (id, "fake:asr", 20.0, 2)


def test_a_page_is_signed_in_on_every_ingress(guarded: Guarded) -> None:
    _, key = guarded.add()

    with httpx.Client(base_url=guarded.url) as browser:
        browser.post("/v1/session", json={"key": key}, headers={"Origin": guarded.url})
        statuses = Counter(browser.get("/v1/models").status_code for _ in range(30))
        guarded.shown.append(browser.cookies["pc_session"].rpartition(".")[2])

    assert statuses == {200: 30}


def test_no_secret_is_in_any_log(guarded: Guarded) -> None:
    secrets = [text.rpartition("-")[2][-20:] for text in guarded.shown if text.startswith("sk-")]
    cookies = [text for text in guarded.shown if not text.startswith("sk-")]
    files = [path for path in logs().rglob("*") if path.is_file()]
    content = b"".join(path.read_bytes() for path in files)

    found = [secret for secret in (*secrets, *cookies) if secret.encode() in content]
    assert len(secrets) >= 5
    assert len(cookies) == 1
    assert b'"bytes_in"' in content
    assert found == []


def test_the_service_listens_beyond_loopback_only_where_that_is_said() -> None:
    config = AppConfig.model_validate({"models": {"vad": "fake:vad", "asr": "fake:asr"}})

    with (
        pytest.raises(ValueError, match="0\\.0\\.0\\.0"),
        running(config, host="0.0.0.0", port=free_port()),
    ):
        pass


def test_serve_is_asked_where_it_listens(guarded: Guarded) -> None:
    assert serve.status().applications["default"].status == "RUNNING"
    assert listening_host() == "127.0.0.1"
