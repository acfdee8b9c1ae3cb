"""HTTP through the proxy that the environment names, and never through one to this machine.

httpx reads the same variables. But it also takes loopback through the proxy, it fails at once where
any of the named proxies cannot be used, and its errors do not say that there is a proxy.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from threading import Lock
from typing import Generic, TypeVar
from urllib.request import getproxies, proxy_bypass

import httpx

PORTS = {"http": 80, "https": 443}

AnyTransport = TypeVar("AnyTransport", httpx.HTTPTransport, httpx.AsyncHTTPTransport)


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy and the variable that names it."""

    url: str
    variable: str

    def __str__(self) -> str:
        """Without the password, because this goes into messages."""
        return f"the proxy {re.sub('//.*@', '//', self.url)} that {self.variable} names"


def proxy_for(url: httpx.URL) -> Proxy | None:
    """The proxy for requests to this URL, None where there is none.

    The variables are `http_proxy`, `https_proxy`, `all_proxy` and `no_proxy`, in small letters or
    in capitals.
    """
    if not url.host or is_this_machine(url.host):
        return None
    named = getproxies()
    kind = url.scheme if named.get(url.scheme) else "all"
    proxy = named.get(kind, "").strip()
    if not proxy or _is_excepted(url, named.get("no", "")):
        return None
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    return Proxy(re.sub("^socks://", "socks5://", proxy), f"{kind}_proxy")


def is_this_machine(host: str) -> bool:
    """Whether the name or address is loopback, also written as 127.0.0.2 or ::ffff:127.0.0.1."""
    name = host.rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ip_address(name)
    except ValueError:
        return False
    address = getattr(address, "ipv4_mapped", None) or address
    return address.is_loopback or address.is_unspecified  # 0.0.0.0 connects to this machine


def _is_excepted(url: httpx.URL, no_proxy: str) -> bool:
    """Whether `no_proxy` has the host: its name, its domain, its address, its network or `*`."""
    entries = [entry.strip() for entry in no_proxy.split(",")]
    port = url.port or PORTS.get(url.scheme)
    by_name = proxy_bypass(url.host) or proxy_bypass(f"{url.host}:{port}")
    return by_name or "*" in entries or any(_is_in(url.host, entry) for entry in entries)


def _is_in(host: str, network: str) -> bool:
    try:
        return ip_address(host) in ip_network(network.strip("[]"), strict=False)
    except ValueError:
        return False


def through(url: httpx.URL | str) -> str:
    """ " through the proxy ..." for the end of a message about this URL, else nothing."""
    try:
        proxy = proxy_for(httpx.URL(url))
    except httpx.InvalidURL:
        return ""
    return f" through {proxy}" if proxy else ""


class _Routes(Generic[AnyTransport]):
    """The transport for each proxy. It is made when a request needs it."""

    def __init__(self, make: Callable[..., AnyTransport]) -> None:
        self._make: Callable[..., AnyTransport] = make
        self._made: dict[Proxy | None, AnyTransport] = {}
        self._lock = Lock()

    @contextmanager
    def to(self, url: httpx.URL) -> Iterator[AnyTransport]:
        """The transport for this URL. An error inside this block names the proxy."""
        proxy = proxy_for(url)
        try:
            yield self._transport(proxy)
        except httpx.TransportError as error:
            if proxy is None:
                raise
            raise type(error)(f"{error} (through {proxy})".lstrip()) from error

    def _transport(self, proxy: Proxy | None) -> AnyTransport:
        with self._lock:
            if proxy not in self._made:
                try:
                    self._made[proxy] = self._make(proxy=proxy.url if proxy else None)
                except (ImportError, ValueError, httpx.InvalidURL) as error:
                    raise httpx.UnsupportedProtocol(str(error)) from error
            return self._made[proxy]

    def all(self) -> list[AnyTransport]:
        """Every transport that was made."""
        return list(self._made.values())


class Transport(httpx.BaseTransport):
    """For `httpx.Client(transport=...)`. Safe to share between threads."""

    def __init__(self) -> None:
        self._routes = _Routes(httpx.HTTPTransport)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        with self._routes.to(request.url) as transport:
            return transport.handle_request(request)

    def close(self) -> None:
        for transport in self._routes.all():
            transport.close()


class AsyncTransport(httpx.AsyncBaseTransport):
    """For `httpx.AsyncClient(transport=...)`."""

    def __init__(self) -> None:
        self._routes = _Routes(httpx.AsyncHTTPTransport)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        with self._routes.to(request.url) as transport:
            return await transport.handle_async_request(request)

    async def aclose(self) -> None:
        for transport in self._routes.all():
            await transport.aclose()
