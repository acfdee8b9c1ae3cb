"""Who comes in, before anything of a body is read, and what everybody else is told."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.types import Message

from deployments.api.doors import keyring
from deployments.api.ingress import Front, create_app
from deployments.config import Limits
from tests.api.doors.house import PATH, House, house, some_key, upload
from tests.clients.fakes import ENGINE, FakeHandle, FakeRouter

ID, KEY = some_key("tom")
OTHER_KEY = some_key("ann")[1]
LONG = [(b"content-length", b"500000000"), (b"content-type", b"multipart/form-data; boundary=b")]
OPEN = ["/healthz", "/readyz", "/openapi.json", "/v1/session"]
CLOSED = [("GET", "/v1/models"), ("POST", PATH), ("GET", "/v1/usage"), ("GET", "/anything")]


def run(folder: Path, work: Callable[[House], Awaitable[Any]], *lines: str, **more: Any) -> Any:
    async def inside() -> Any:
        async with house(folder, *(lines or (KEY,)), **more) as one:
            return await work(one)

    return asyncio.run(inside())


async def ask(
    one: House, method: str, path: str, headers: list[tuple[bytes, bytes]]
) -> list[Message]:
    """The answer to a request whose body must not be read."""
    sent: list[Message] = []

    async def receive() -> Message:
        raise AssertionError("The body was read.")

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(b"host", b"service"), *headers],
        "server": ("service", 80),
        "scheme": "http",
        "root_path": "",
    }
    await one.app(scope, receive, send)
    return sent


@pytest.mark.parametrize(
    "shown",
    [
        [],
        [(b"authorization", b"Bearer " + OTHER_KEY.encode())],
        [(b"authorization", KEY.encode())],
        [(b"authorization", b"Basic " + KEY.encode())],
        [(b"authorization", b"Bearer ")],
        [(b"authorization", b"Bearer \xff\xfe")],
        [(b"x-api-key", KEY.encode())],
        [(b"cookie", b"pc_session=" + KEY.encode())],
        [(b"cookie", b"pc_session=..")],
    ],
)
def test_nothing_of_the_body_is_read_without_a_key(
    tmp_path: Path, shown: list[tuple[bytes, bytes]]
) -> None:
    start, body = run(tmp_path, lambda one: ask(one, "POST", PATH, [*LONG, *shown]))

    headers = dict(start["headers"])
    error = json.loads(body["body"])["error"]
    assert start["status"] == 401
    assert headers[b"www-authenticate"].startswith(b"Bearer")
    assert headers[b"connection"] == b"close"
    assert (error["code"], error["type"]) == ("invalid_api_key", "invalid_request_error")
    assert KEY not in str(body)
    assert OTHER_KEY not in str(body)


@pytest.mark.parametrize(("method", "path"), CLOSED)
def test_every_path_but_the_open_ones_needs_a_key(tmp_path: Path, method: str, path: str) -> None:
    async def work(one: House) -> list[int]:
        async with one.client() as client, one.client(KEY) as known:
            return [(await c.request(method, path)).status_code for c in (client, known)]

    without, with_key = run(tmp_path, work)

    assert without == 401
    assert with_key != 401


@pytest.mark.parametrize("path", OPEN)
def test_the_open_paths_need_none_and_a_wrong_one_does_no_harm(tmp_path: Path, path: str) -> None:
    async def work(one: House) -> list[int]:
        async with one.client() as client, one.client(OTHER_KEY) as wrong:
            return [(await c.get(path)).status_code for c in (client, wrong)]

    assert run(tmp_path, work) == [200, 200]


def test_where_no_key_is_needed_everybody_is_in() -> None:
    async def work() -> tuple[int, Any, Any]:
        front = Front(FakeHandle(FakeRouter()), ENGINE, Limits())
        async with House(create_app(front), None, Path()).client() as client:  # type: ignore[arg-type]
            answer = await client.post(PATH, **upload())
            ready = (await client.get("/readyz")).json()
            return answer.status_code, ready, (await client.get("/v1/usage")).json()

    status, ready, usage = asyncio.run(work())

    assert (status, usage["data"]) == (200, [])
    assert "pools" in ready


@pytest.mark.parametrize(
    ("scopes", "method", "path", "status"),
    [
        ("transcribe", "POST", PATH, 200),
        ("jobs,operate", "POST", PATH, 403),
        ("transcribe", "POST", "/v1/transcription-jobs", 403),
        ("transcribe", "GET", "/v1/transcription-jobs/1", 403),
        ("transcribe", "POST", "/api/v1/services/audio/asr/transcription", 403),
        ("jobs", "POST", "/v1/transcription-jobs", 404),  # until there are jobs
        ("jobs", "GET", "/v1/models", 200),
    ],
)
def test_a_key_may_do_what_its_scopes_say(
    tmp_path: Path, scopes: str, method: str, path: str, status: int
) -> None:
    async def work(one: House) -> Any:
        async with one.client(KEY) as client:
            return await client.request(method, path, **(upload() if method == "POST" else {}))

    answer = run(tmp_path, work, f"{KEY} scopes={scopes}")

    assert answer.status_code == status
    assert ("This key has no scope" in answer.text) == (status == 403)


def test_a_scope_counts_also_where_serve_has_a_prefix(tmp_path: Path) -> None:
    async def work(one: House) -> list[Message]:
        scope_path = f"/asr{PATH}"
        app = one.app

        async def prefixed(scope: Any, receive: Any, send: Any) -> None:
            await app({**scope, "root_path": "/asr"}, receive, send)

        inside = House(prefixed, one.keys, one.file)  # type: ignore[arg-type]
        key = [(b"authorization", f"Bearer {KEY}".encode())]
        return await ask(inside, "POST", scope_path, [*LONG, *key])

    assert run(tmp_path, work, f"{KEY} scopes=jobs")[0]["status"] == 403


@pytest.mark.parametrize(("scopes", "is_told"), [("transcribe", False), ("operate", True)])
def test_only_an_operator_is_told_of_the_pools(tmp_path: Path, scopes: str, is_told: bool) -> None:
    async def work(one: House) -> list[Any]:
        async with one.client() as client, one.client(KEY) as known:
            return [(await c.get("/readyz")).json() for c in (client, known)]

    nobody, known = run(tmp_path, work, f"{KEY} scopes={scopes}")

    assert nobody == {"ready": True}
    assert ("pools" in known) == is_told


def test_an_upload_over_the_limit_of_its_key_is_refused_unread(tmp_path: Path) -> None:
    key = [(b"authorization", f"Bearer {KEY}".encode())]

    start, body = run(
        tmp_path, lambda one: ask(one, "POST", PATH, [*LONG, *key]), f"{KEY} max_upload_mb=2"
    )

    assert start["status"] == 413
    assert "2 MB" in json.loads(body["body"])["error"]["message"]


@pytest.mark.parametrize(("n_bytes", "status"), [(500_000, 200), (500_001, 413)])
@pytest.mark.parametrize("is_chunked", [False, True])
def test_the_limit_of_a_key_is_exact_also_without_a_length(
    tmp_path: Path, n_bytes: int, status: int, is_chunked: bool
) -> None:
    async def work(one: House) -> int:
        async with one.client(KEY) as client:
            request = client.build_request("POST", PATH, **upload(n_bytes))
            if is_chunked:
                del request.headers["content-length"]
            return (await client.send(request)).status_code

    assert run(tmp_path, work, f"{KEY} max_upload_mb=0.5") == status


def test_a_key_cannot_raise_the_limit_of_the_service(tmp_path: Path) -> None:
    async def work(one: House) -> int:
        async with one.client(KEY) as client:
            return (await client.post(PATH, **upload(2_000_001))).status_code

    line = f"{KEY} max_upload_mb=2048"
    assert run(tmp_path, work, line, limits=Limits(max_upload_mb=2)) == 413


def test_a_line_that_is_taken_out_of_the_file_closes_the_door(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keyring, "TELL_S", 0.1)

    async def work(one: House) -> list[int]:
        async with one.client(KEY) as client:
            before = (await client.get("/v1/models")).status_code
            one.write(OTHER_KEY)
            await asyncio.sleep(1.5)
            return [before, (await client.get("/v1/models")).status_code]

    assert run(tmp_path, work) == [200, 401]


def test_while_the_keys_are_unknown_nobody_comes_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keyring, "READY_TIMEOUT_S", 0.1)

    async def work(one: House) -> list[Message]:
        one.file.unlink()
        key = [(b"authorization", f"Bearer {KEY}".encode())]
        return await ask(one, "POST", PATH, [*LONG, *key])

    start, _ = run(tmp_path, work)

    assert start["status"] == 503
    assert b"retry-after" in dict(start["headers"])


def test_every_request_leaves_one_line_that_tells_no_secret(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def work(one: House) -> None:
        async with one.client(KEY, **{"X-Request-Id": "r1"}) as client:
            await client.post(f"{PATH}?token=hidden", data={"prompt": "private"}, **upload())
            await client.get("/elsewhere/some-name")
            await client.get("/healthz")
        async with one.client(OTHER_KEY) as client:
            await client.post(PATH, **upload())

    with caplog.at_level(logging.INFO, logger="ray.serve.paraformer.audit"):
        run(tmp_path, work, f"{KEY} name=tom")

    lines = [json.loads(r.message) for r in caplog.records if r.name.endswith("audit")]
    shown = [(n["key"], n["name"], n["method"], n["route"], n["status"]) for n in lines]
    assert shown == [
        (ID, "tom", "POST", PATH, 200),
        (ID, "tom", "GET", "", 404),
        ("", "", "POST", PATH, 401),
    ]
    assert lines[0]["request"] == "r1"
    assert lines[0]["bytes_in"] > 10
    assert lines[0]["audio_s"] == pytest.approx(8.51, abs=0.1)
    assert lines[2]["bytes_in"] == 0
    assert not [
        word
        for word in (KEY[-43:], OTHER_KEY[-43:], "hidden", "private", "some-name")
        if word in caplog.text
    ]
