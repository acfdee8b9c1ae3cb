"""The proxy stays a few megabytes ahead of the ingress, however fast a client sends."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any

import psutil
import pytest
from starlette.types import Message, Receive, Scope, Send

from deployments.api import pace
from deployments.api.pace import AHEAD_BYTES, KEY, Paced, Progress

PIECE_BYTES = 64 * 1024
BODY_BYTES = 20_000_000
CHUNKED = [(b"transfer-encoding", b"chunked")]


class Proxy:
    """Serve's proxy, which reads as fast as it may. The ingress is a function."""

    def __init__(self, ingress: Callable[[Proxy, Progress], Awaitable[None]]) -> None:
        self._ingress = ingress
        self.n_taken = 0
        self.scopes: list[Scope] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scopes.append(scope)
        reading = asyncio.ensure_future(self._read(receive))
        with Progress(scope) as progress:
            await self._ingress(self, progress)
        reading.cancel()

    async def _read(self, receive: Receive) -> None:
        while (message := await receive()).get("more_body"):
            self.n_taken += len(message["body"])
            await asyncio.sleep(0)


class OfAnotherNode(Proxy):
    """A proxy whose ingress cannot open its file."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        place = scope[KEY] | {"machine": "another"}
        await super().__call__({**scope, KEY: place}, receive, send)


async def client() -> Message:
    """A client that always has more to send."""
    return {"type": "http.request", "body": bytes(PIECE_BYTES), "more_body": True}


async def leaves() -> Message:
    return {"type": "http.disconnect"}


async def nowhere(message: Message) -> None: ...


def http(headers: list[tuple[bytes, bytes]]) -> dict[str, Any]:
    return {"type": "http", "headers": headers}


def announced(n_bytes: int) -> list[tuple[bytes, bytes]]:
    return [(b"content-length", str(n_bytes).encode())]


async def busy(proxy: Proxy, progress: Progress) -> None:
    """An ingress that has begun and then reads nothing more."""
    progress.tell(1)
    await asyncio.sleep(0.3)


async def steady(proxy: Proxy, progress: Progress) -> None:
    """An ingress that reads a megabyte at a time, up to the end."""
    n_read = 1
    while n_read < BODY_BYTES:
        progress.tell(n_read)
        await asyncio.sleep(0.02)
        assert proxy.n_taken <= n_read + AHEAD_BYTES + PIECE_BYTES
        n_read = min(n_read + 1_000_000, proxy.n_taken)


async def elsewhere(proxy: Proxy, progress: Progress) -> None:
    """An ingress that cannot tell how much it has read."""
    await asyncio.sleep(0.3)


@pytest.mark.parametrize("headers", [CHUNKED, announced(BODY_BYTES)], ids=["chunked", "length"])
def test_a_body_is_read_a_few_megabytes_ahead_of_the_ingress(
    headers: list[tuple[bytes, bytes]],
) -> None:
    proxy = Proxy(busy)

    asyncio.run(Paced(proxy)(http(headers), client, nowhere))

    assert AHEAD_BYTES <= proxy.n_taken <= AHEAD_BYTES + 2 * PIECE_BYTES


def test_a_body_is_read_to_its_end_if_the_ingress_reads_it() -> None:
    proxy = Proxy(steady)

    asyncio.run(Paced(proxy)(http(CHUNKED), client, nowhere))

    assert proxy.n_taken >= BODY_BYTES


@pytest.mark.parametrize("headers", [CHUNKED, announced(BODY_BYTES)], ids=["chunked", "length"])
def test_nothing_of_a_body_is_read_for_an_ingress_that_refuses_it_by_its_head(
    headers: list[tuple[bytes, bytes]],
) -> None:
    n_received = 0

    async def sends() -> Message:
        nonlocal n_received
        n_received += 1
        return await client()

    async def refuses(scope: Scope, receive: Receive, send: Send) -> None:
        reading = asyncio.ensure_future(receive())
        await asyncio.sleep(0.1)  # the key is checked, and no `Progress` is made
        reading.cancel()

    asyncio.run(Paced(refuses)(http(headers), sends, nowhere))

    assert n_received == 0


def test_for_an_ingress_of_another_node_the_body_is_read_slowly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pace, "UNSEEN_BYTES_PER_S", 5_000_000)
    monkeypatch.setattr(pace, "HOLD_S", 0.05)
    proxy = OfAnotherNode(elsewhere)

    asyncio.run(Paced(proxy)(http(CHUNKED), client, nowhere))

    assert AHEAD_BYTES + 500_000 < proxy.n_taken < AHEAD_BYTES + 10 * 5_000_000


@pytest.mark.parametrize("n_bytes", [0, 1, AHEAD_BYTES])
def test_a_small_body_costs_nothing(n_bytes: int) -> None:
    proxy = Proxy(elsewhere)
    scope = http(announced(n_bytes))

    asyncio.run(Paced(proxy)(scope, client, nowhere))

    assert proxy.scopes[0] is scope


@pytest.mark.parametrize("kind", ["websocket", "lifespan"])
def test_what_is_not_http_passes(kind: str) -> None:
    proxy = Proxy(elsewhere)
    scope = {"type": kind, "headers": []}

    asyncio.run(Paced(proxy)(scope, client, nowhere))

    assert proxy.scopes[0] is scope


def test_a_client_that_leaves_is_noticed() -> None:
    async def wait(proxy: Proxy, progress: Progress) -> None:
        await asyncio.sleep(0.05)

    proxy = Proxy(wait)

    asyncio.run(Paced(proxy)(http(CHUNKED), leaves, nowhere))

    assert proxy.n_taken == 0


@pytest.mark.parametrize("error", [ValueError, asyncio.CancelledError])
def test_no_file_stays_open_when_a_request_fails(error: type[BaseException]) -> None:
    async def fail(proxy: Proxy, progress: Progress) -> None:
        raise error

    before = psutil.Process().num_fds()

    async def run() -> None:
        with pytest.raises(error):
            await Paced(Proxy(fail))(http(CHUNKED), leaves, nowhere)

    asyncio.run(run())

    assert psutil.Process().num_fds() == before


@pytest.mark.parametrize(
    "change",
    [{"machine": "another"}, {"inode": 1}, {"path": "/proc/1/fd/0"}, {"path": "/etc/hostname"}],
)
def test_only_the_proxy_s_own_file_is_written(change: dict[str, Any]) -> None:
    with pace._counter() as file:
        scope = {KEY: pace.asdict(pace.stored(file)) | change}

        with Progress(scope) as progress:
            progress.tell(5)

        assert os.pread(file.fileno(), 8, 0) == bytes(8)


def test_a_request_that_no_proxy_paces_is_read_as_before() -> None:
    scope = {"type": "http"}
    open_before = len(os.listdir("/proc/self/fd"))

    with Progress(scope) as progress:
        progress.tell(5)
        open_meanwhile = len(os.listdir("/proc/self/fd"))

    assert scope == {"type": "http"}
    assert open_meanwhile == open_before  # no file is looked for
