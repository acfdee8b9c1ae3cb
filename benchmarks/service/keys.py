"""`keys`: what the check of an API key costs, alone and as a part of a request.

The check alone is CPU time of this process, with as many keys as a large service has. A limited
key also asks the one replica that counts for all ingresses: that is measured over HTTP.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import httpx
import typer
from starlette.datastructures import Headers

from benchmarks.machine import free_port
from benchmarks.material.recordings import shuffled_meeting, wav_bytes
from benchmarks.results import Figures, say
from deployments.api.doors import rules
from deployments.api.doors.keyring import Keyring
from deployments.config import AppConfig
from deployments.keys.messages import Told
from deployments.keys.records import Key
from deployments.keys.secrets import hash_of, id_of, new_id, new_key
from deployments.serve import running

ROUNDS = 50
RECORDING_MS = 5000
PATH = "/v1/audio/transcriptions"
HOUR_S = 3600.0
TIMEOUT_S = 60.0


class _Known:
    """A handle of `Keys` that knows these keys, and counts nothing."""

    def __init__(self, keys: dict[str, Key]) -> None:
        self._told = Told(1, keys, "secret of the sessions")
        self.tell = self

    def remote(self, *_: object) -> asyncio.Future[Told]:
        future: asyncio.Future[Told] = asyncio.get_running_loop().create_future()
        future.set_result(self._told)
        return future


def run(
    keys: Annotated[int, typer.Option(help="Keys that the service has.")] = 10_000,
    checks: Annotated[int, typer.Option(help="Checks of a round.")] = 200,
    requests: Annotated[int, typer.Option(help="Requests over HTTP for each key; 0: none.")] = 200,
) -> Figures:
    """CPU time of a check, and the time that a request takes with and without limits."""
    figures: Figures = {"keys": keys} | asyncio.run(_alone(keys, checks))
    if requests:
        figures |= _over_http(requests)
    return figures


async def _alone(n_keys: int, checks: int) -> Figures:
    texts = [new_key(new_id()) for _ in range(n_keys)]
    table = {str(id_of(text)): Key(str(id_of(text)), "name", hash_of(text)) for text in texts}
    keyring = Keyring(_Known(table))
    await keyring.ready()
    session = keyring.new_session(next(iter(table.values())), HOUR_S)

    async def check(*header: tuple[bytes, bytes]) -> None:
        await keyring.ready()
        keyring.key_of(rules.shown(Headers(raw=[(b"host", b"service"), *header])))

    bearer = (b"authorization", f"Bearer {texts[n_keys // 2]}".encode())
    cookie = (b"cookie", f"{rules.COOKIE}={session}".encode())
    return {
        "check_us": await _cpu_us(lambda: check(bearer), checks),
        "session_check_us": await _cpu_us(lambda: check(cookie), checks),
    }


async def _cpu_us(work: Callable[[], Any], times: int) -> float:
    """CPU time of one call in microseconds, the median of the rounds."""
    found: list[float] = []
    for _ in range(ROUNDS):
        began_s = time.process_time()
        for _ in range(times):
            await work()
        found.append((time.process_time() - began_s) / times * 1e6)
    return round(median(found), 2)


def _over_http(n_requests: int) -> Figures:
    """The latency of a request of five seconds, in turn with a key of each kind."""
    plain, limited = new_key(new_id()), new_key(new_id())
    wav = wav_bytes(shuffled_meeting(RECORDING_MS, seed=0))
    with TemporaryDirectory() as root:
        file = Path(root) / "keys"
        file.touch(0o600)
        lines = f"{plain}\n{limited} max_concurrent=100 audio_s_per_day=1000000\n"
        file.write_text(lines, encoding="utf-8")
        models = {"vad": "fake:vad", "asr": "fake:asr", "punctuation": "fake:punctuation"}
        document = {"models": models, "keys": {"file": str(file)}}
        config = AppConfig.model_validate(document)
        say("Starting the service ...")
        took: dict[str, list[float]] = {plain: [], limited: []}
        with (
            running(config, port=free_port(), num_cpus=4) as url,
            httpx.Client(base_url=url, timeout=TIMEOUT_S, trust_env=False) as client,
        ):
            for _ in range(n_requests):
                for key, times in took.items():
                    times.append(_latency_ms(client, key, wav))
    warm = n_requests // 5
    plain_ms, limited_ms = (median(took[key][warm:]) for key in (plain, limited))
    return {
        "request_ms": round(plain_ms, 2),
        "limited_request_ms": round(limited_ms, 2),
        "requests": n_requests,
    }


def _latency_ms(client: httpx.Client, key: str, wav: bytes) -> float:
    headers = {"Authorization": f"Bearer {key}"}
    began_s = time.perf_counter()
    client.post(PATH, headers=headers, files={"file": ("a.wav", wav)}).raise_for_status()
    return 1000 * (time.perf_counter() - began_s)
