"""The way to a place that a user named: a connection to the very address that was checked.

A name is looked up once for each connection. Every address that it has must be allowed, and the
socket goes to one of these addresses. So DNS cannot answer otherwise in between. TLS still checks
the certificate against the name. There is no proxy from the environment and no redirect here.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import cache
from ipaddress import ip_address
from typing import TypeAlias

import httpcore
import httpx

from deployments.core.errors import UrlRefused
from deployments.outgoing.addresses import Address
from deployments.outgoing.allowed import NO_PUBLIC_ADDRESS, Allowed

MAX_TRIED = 4  # addresses of one name
CONNECT_TIMEOUT_S = 10.0  # for each of them, and for the name

Resolve: TypeAlias = Callable[[str, int], Awaitable[Sequence[str]]]


async def look_up(host: str, port: int) -> list[str]:
    """The addresses of the name, as the system gives them. Raises OSError."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(info[4][0]) for info in found]


class Guard(httpcore.AsyncNetworkBackend):
    """Opens connections for httpcore, to allowed places only. Raises UrlRefused for others.

    `resolve` and `network` stand for DNS and for the sockets.
    """

    def __init__(
        self,
        allowed: Allowed,
        *,
        resolve: Resolve = look_up,
        network: httpcore.AsyncNetworkBackend | None = None,
    ) -> None:
        self._allowed, self._resolve = allowed, resolve
        self._network = httpcore.AnyIOBackend() if network is None else network

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        self._allowed.check_port(host, port)  # before anybody is asked for the name
        addresses = await self._addresses(host, port, timeout)
        self._allowed.check(host, port, addresses)
        failure: Exception = httpcore.ConnectError("no address")
        for address in addresses[:MAX_TRIED]:
            try:
                return await self._network.connect_tcp(
                    str(address), port, timeout, local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        raise UrlRefused(NO_PUBLIC_ADDRESS)

    async def sleep(self, seconds: float) -> None:
        await self._network.sleep(seconds)

    async def _addresses(self, host: str, port: int, timeout_s: float | None) -> list[Address]:
        """All addresses of the host, each once. None where nobody knows the name."""
        try:
            return [ip_address(host)]
        except ValueError:
            pass
        try:
            async with asyncio.timeout(timeout_s):
                found = await self._resolve(host, port)
        except (OSError, UnicodeError, TimeoutError):
            return []
        return [ip_address(text) for text in dict.fromkeys(found)]


def connections(
    guard: Guard, *, context: ssl.SSLContext | None = None
) -> httpcore.AsyncConnectionPool:
    """Connections over the guard. Each request has a new one, and so a new check."""
    return httpcore.AsyncConnectionPool(
        ssl_context=context or _tls(),
        max_keepalive_connections=0,
        http2=False,
        retries=0,
        network_backend=guard,
    )


@cache
def _tls() -> ssl.SSLContext:
    """Checks certificates by the authorities of the machine, and by those that httpx brings."""
    context = httpx.create_ssl_context(trust_env=False)
    context.load_default_certs()
    return context
