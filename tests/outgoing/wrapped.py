"""Every way in which an IPv6 address may carry an IPv4 address."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address

PUBLIC_V4 = IPv4Address("93.184.215.14")


def with_prefix(prefix: str) -> Callable[[IPv4Address], IPv6Address]:
    """The IPv4 address as the last 32 bits."""
    return lambda inner: IPv6Address(int(IPv6Address(prefix)) | int(inner))


def as_6to4(inner: IPv4Address) -> IPv6Address:
    return IPv6Address(0x2002 << 112 | int(inner) << 80 | 1)


def as_teredo_client(inner: IPv4Address) -> IPv6Address:
    return IPv6Address(0x20010000 << 96 | int(PUBLIC_V4) << 64 | int(inner) ^ 0xFFFFFFFF)


def as_teredo_server(inner: IPv4Address) -> IPv6Address:
    return IPv6Address(0x20010000 << 96 | int(inner) << 64 | int(PUBLIC_V4) ^ 0xFFFFFFFF)


def at_bit(prefix: str, place: int) -> Callable[[IPv4Address], IPv6Address]:
    """Behind a prefix of `place` bits, as in RFC 6052: bits 64 to 71 stay zero."""
    n_before = 64 - place
    n_after = 32 - n_before

    def wrap(inner: IPv4Address) -> IPv6Address:
        high, low = int(inner) >> n_after, int(inner) & (1 << n_after) - 1
        return IPv6Address(int(IPv6Address(prefix)) | high << 64 | low << 56 - n_after)

    return wrap


WRAPPED: dict[str, Callable[[IPv4Address], IPv6Address]] = {
    "mapped": with_prefix("::ffff:0:0"),
    "compatible": with_prefix("::"),
    "translated": with_prefix("::ffff:0:0:0"),
    "NAT64": with_prefix("64:ff9b::"),
    "local NAT64": with_prefix("64:ff9b:1::"),
    "local NAT64, /48": at_bit("64:ff9b:1::", 48),
    "local NAT64, /56": at_bit("64:ff9b:1:aa00::", 56),
    "local NAT64, /64": at_bit("64:ff9b:1:aabb::", 64),
    "6to4": as_6to4,
    "Teredo's client": as_teredo_client,
    "Teredo's server": as_teredo_server,
}
