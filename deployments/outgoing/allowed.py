"""Where connections may go: to public addresses on two ports, and to what the operator names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import ip_network

from deployments.core.errors import UrlRefused
from deployments.outgoing.addresses import Address, Network, is_closed, is_public, reached
from deployments.outgoing.urls import PORTS, host_and_port

# The same for a name that does not exist: so nobody learns which names an intranet has.
NO_PUBLIC_ADDRESS = "The host of the URL has no public address, or does not exist."
OTHER_PORT = "Only the ports 80 and 443 are used."


@dataclass(frozen=True, slots=True)
class Allowed:
    """What is allowed beyond public addresses on the ports 80 and 443."""

    hosts: frozenset[tuple[str, int]] = frozenset()
    networks: tuple[Network, ...] = ()

    def check_port(self, host: str, port: int) -> None:
        """Raises UrlRefused for a port that nothing opens."""
        if port not in PORTS.values() and (host, port) not in self.hosts:
            raise UrlRefused(OTHER_PORT)

    def check(self, host: str, port: int, addresses: Sequence[Address]) -> None:
        """Raises UrlRefused unless each address of the host may be reached."""
        self.check_port(host, port)
        is_named = (host, port) in self.hosts
        if not addresses or not all(self._passes(one, is_named) for one in addresses):
            raise UrlRefused(NO_PUBLIC_ADDRESS)

    def _passes(self, address: Address, is_named: bool) -> bool:
        if is_closed(address):
            return False
        return is_named or is_public(address) or self._is_in_networks(address)

    def _is_in_networks(self, address: Address) -> bool:
        def is_in(one: Address) -> bool:
            return any(one in network for network in self.networks)

        return is_in(address) or all(is_in(one) for one in reached(address))


def allowed(hosts: Iterable[str] = (), networks: Iterable[str] = ()) -> Allowed:
    """From the settings: hosts such as `files.corp` or `minio:9000`, and networks in CIDR form.

    Raises ValueError for what is neither.
    """
    named: set[tuple[str, int]] = set()
    for entry in hosts:
        try:
            host, port = host_and_port(entry)
        except UrlRefused:
            raise ValueError(f"{entry!r} is not a host, or a host with a port") from None
        named |= {(host, each) for each in (PORTS.values() if port is None else [port])}
    return Allowed(frozenset(named), tuple(ip_network(network) for network in networks))
