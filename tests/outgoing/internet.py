"""An internet in one process: names, addresses, and one web server that stands behind them all.

Nothing leaves loopback. A connection to any address ends at the server, and is noted.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeAlias

import httpcore

PUBLIC = "93.184.215.14"
OTHER = "1.1.1.1"
METADATA = "169.254.169.254"

Page: TypeAlias = bytes | Callable[[asyncio.StreamWriter], Awaitable[None]]


def answer(body: bytes, status: int = 200, **headers: str) -> bytes:
    """A whole HTTP answer. Of a header's name `_` stands for `-`."""
    sent = {"content_length": str(len(body)), **headers}
    lines = [f"HTTP/1.1 {status} X", *(f"{k.replace('_', '-')}: {v}" for k, v in sent.items())]
    return "\r\n".join([*lines, "", ""]).encode() + body


def to(location: str, status: int = 302) -> bytes:
    return answer(b"", status, location=location)


class Internet(httpcore.AsyncNetworkBackend):
    """`names` has the answers of DNS for each name, in turn, where the last one holds on.

    `pages` has what the server sends for each path.
    """

    def __init__(
        self, pages: Mapping[str, Page], names: Mapping[str, Sequence[Sequence[str]]] | None = None
    ) -> None:
        self._pages = pages
        self._names = {"public.test": [[PUBLIC]], **(names or {})}
        self._network = httpcore.AnyIOBackend()
        self._port = 0
        self.looked_up: list[str] = []
        self.connected: list[tuple[str, int]] = []
        self.asked: list[str] = []  # the heads of requests
        self.server_names: list[str | None] = []  # by TLS
        self.down: set[str] = set()  # addresses
        self.n_read = 0
        self._serving: set[asyncio.Task[Any]] = set()

    async def resolve(self, host: str, port: int) -> list[str]:
        self.looked_up.append(host)
        if host not in self._names:
            raise OSError("no such name")
        answers = self._names[host]
        return list(answers[min(self.looked_up.count(host), len(answers)) - 1])

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        self.connected.append((host, port))
        if host in self.down:
            raise httpcore.ConnectError("refused")
        return _Counted(self, await self._network.connect_tcp("127.0.0.1", self._port, timeout))

    async def sleep(self, seconds: float) -> None:
        await self._network.sleep(seconds)

    @asynccontextmanager
    async def running(self, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
        """The server, and its port. With a context it speaks TLS."""
        if context is not None:
            context.sni_callback = lambda _, name, __: self.server_names.append(name)
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=context)
        self._port = server.sockets[0].getsockname()[1]
        async with server:
            try:
                yield self._port
            finally:
                await _ended(self._serving)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        try:
            with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await self._send(reader, writer)
        finally:
            writer.transport.abort()
            self._serving.discard(task)

    async def _send(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.asked.append(head)
        page = self._pages.get(head.split(" ")[1], answer(b"", 404))
        if isinstance(page, bytes):
            writer.write(page)
            await writer.drain()
        else:
            await page(writer)
        writer.close()
        await writer.wait_closed()


async def _ended(tasks: set[asyncio.Task[Any]]) -> None:
    """Stops the tasks. They take themselves out of the set."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.sleep(0)  # for the sockets


class _Counted(httpcore.AsyncNetworkStream):
    """A connection that counts the bytes which are read from it."""

    def __init__(self, internet: Internet, stream: httpcore.AsyncNetworkStream) -> None:
        self._internet, self._stream = internet, stream

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        data = await self._stream.read(max_bytes, timeout)
        self._internet.n_read += len(data)
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.AsyncNetworkStream:
        stream = await self._stream.start_tls(ssl_context, server_hostname, timeout)
        return _Counted(self._internet, stream)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
