"""Which internet addresses may be reached because a user names them: the public ones.

An IPv6 address may carry an IPv4 address, which gateways and the kernel unpack. So what counts is
the address inside.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import TypeAlias

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

# IANA's registries of special-purpose addresses, and multicast. Newer versions of Python know more
# of them than older ones, so the table is here.
NOT_PUBLIC: tuple[tuple[Network, str], ...] = tuple(
    (ip_network(network), what)
    for network, what in (
        ("0.0.0.0/8", "this network"),
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "shared by a provider's customers"),
        ("127.0.0.0/8", "loopback"),
        ("169.254.0.0/16", "link-local, with the metadata of most clouds"),
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "protocol assignments, with the metadata of Oracle's cloud"),
        ("192.0.2.0/24", "for documents"),
        ("192.88.99.0/24", "relays of 6to4"),
        ("192.168.0.0/16", "private"),
        ("198.18.0.0/15", "for measurements"),
        ("198.51.100.0/24", "for documents"),
        ("203.0.113.0/24", "for documents"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved, and broadcast"),
        ("2001::/23", "protocol assignments"),
        ("2001:db8::/32", "for documents"),
        ("2002::/16", "6to4"),
        ("3fff::/20", "for documents"),
    )
)
GLOBAL_V6 = IPv6Network("2000::/3")  # nothing outside it is routed on the internet

# What no setting opens: nobody keeps recordings there, and a cloud's metadata has keys.
NEVER: tuple[tuple[Network, str], ...] = tuple(
    (ip_network(network), what)
    for network, what in (
        ("0.0.0.0/8", "this network, which is this machine on Linux"),
        ("100.100.100.200/32", "metadata of Aliyun"),
        ("168.63.129.16/32", "metadata of Azure, though the address is public"),
        ("169.254.0.0/16", "link-local, with the metadata of most clouds"),
        ("192.0.0.0/24", "protocol assignments, with the metadata of Oracle's cloud"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved, and broadcast"),
        ("::/128", "no address, which is this machine on Linux"),
        ("fd00:42::42/128", "metadata of Scaleway"),
        ("fd00:ec2::/32", "metadata of AWS"),
        ("fd20:ce::254/128", "metadata of Google"),
        ("fe80::/10", "link-local"),
        ("fec0::/10", "site-local, out of use"),
        ("ff00::/8", "multicast"),
    )
)
# Of 64:ff9b:1::/48 this is the part where the IPv4 address can only be the last 32 bits. In the
# rest its place depends on the gateway, so the rest stays outside of what is public.
NAT64 = (IPv6Network("64:ff9b::/96"), IPv6Network("64:ff9b:1::/96"))
COMPATIBLE = IPv6Network("::/96")  # out of use since 2006
LAST_32_BITS = 0xFFFFFFFF


def reached(address: Address) -> tuple[Address, ...]:
    """The addresses that a packet to this one may reach: those that it carries, else itself."""
    if isinstance(address, IPv4Address):
        return (address,)
    if address.ipv4_mapped is not None:
        return (address.ipv4_mapped,)
    if address.sixtofour is not None:
        return (address.sixtofour,)
    if address.teredo is not None:
        return address.teredo  # its server and its client
    if any(address in network for network in NAT64):
        return (IPv4Address(int(address) & LAST_32_BITS),)
    return (address,)


def is_public(address: Address) -> bool:
    """Whether the address, and any address in it, belongs to the internet."""
    return not is_closed(address) and all(_is_global(one) for one in reached(address))


def is_closed(address: Address) -> bool:
    """Whether no setting may open the way to this address."""
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        return True
    inner = reached(address)
    if address in COMPATIBLE:
        inner += (IPv4Address(int(address) & LAST_32_BITS),)
    return any(_is_in(one, NEVER) for one in inner)


def _is_global(address: Address) -> bool:
    is_routed = isinstance(address, IPv4Address) or address in GLOBAL_V6
    return is_routed and address.is_global and not _is_in(address, NOT_PUBLIC)


def _is_in(address: Address, networks: tuple[tuple[Network, str], ...]) -> bool:
    return any(address in network for network, _ in networks)
