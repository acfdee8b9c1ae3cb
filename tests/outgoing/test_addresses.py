"""No address that is not public passes, in whatever form it is written."""

from __future__ import annotations

import ipaddress
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.outgoing.addresses import NEVER, NOT_PUBLIC, is_closed, is_public, reached
from tests.outgoing.wrapped import PUBLIC_V4, WRAPPED, at_bit

PASSES = ("mapped", "NAT64", "local NAT64", "6to4", "Teredo's client", "Teredo's server")
V4 = st.integers(0, 2**32 - 1).map(IPv4Address)
V6 = st.integers(0, 2**128 - 1).map(IPv6Address)
INNER_NETWORKS = [network for network, _ in NOT_PUBLIC + NEVER if network.version == 4]
NOT_PUBLIC_V4 = st.sampled_from(INNER_NETWORKS).flatmap(
    lambda network: st.integers(0, network.num_addresses - 1).map(lambda n: network[n])
)

REFUSED = [
    "0.0.0.0",
    "10.1.2.3",
    "100.64.0.1",
    "100.100.100.200",
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.8",
    "192.0.0.192",
    "192.0.2.1",
    "192.168.1.1",
    "198.18.0.1",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:0:127.0.0.1",
    "100::1",
    "2001:2::1",
    "2001:db8::1",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%lo",
    "2606:4700::1111%lo",
    "fec0::1",
    "ff02::1",
]


@pytest.mark.parametrize("text", REFUSED)
def test_an_address_that_is_not_public_is_refused(text: str) -> None:
    assert not is_public(ip_address(text))


@pytest.mark.parametrize(
    "text",
    [
        *("1.1.1.1", "93.184.215.14", "100.63.255.255", "100.128.0.1", "172.32.0.1"),
        *("2400:3200::1", "2606:4700:4700::1111", "2620:4f:8000::1"),
    ],
)
def test_a_public_address_passes(text: str) -> None:
    assert is_public(ip_address(text))


@pytest.mark.parametrize("form", WRAPPED)
@given(inner=NOT_PUBLIC_V4)
def test_no_wrapping_brings_an_address_through(form: str, inner: IPv4Address) -> None:
    assert not is_public(WRAPPED[form](inner))


@pytest.mark.parametrize("form", WRAPPED)
def test_a_public_address_passes_in_the_forms_that_gateways_unpack(form: str) -> None:
    assert is_public(WRAPPED[form](PUBLIC_V4)) == (form in PASSES)


@given(V4)
def test_what_python_knows_as_not_global_is_never_public(address: IPv4Address) -> None:
    assert not is_public(address) or (address.is_global and not address.is_multicast)


@given(V6 | st.sampled_from(sorted(WRAPPED)).flatmap(lambda form: V4.map(WRAPPED[form])))
def test_a_public_ipv6_address_leads_to_global_ones_only(address: IPv6Address) -> None:
    inner = reached(address)

    assert not is_public(address) or all(one.is_global for one in inner)
    assert not is_public(address) or not any(one.is_multicast for one in inner)


@pytest.mark.parametrize("network", [network for network, _ in NEVER], ids=str)
@pytest.mark.parametrize("form", ["mapped", "compatible", "NAT64", "6to4", "Teredo's client"])
def test_what_no_setting_opens_stays_closed_in_every_form(
    network: ipaddress.IPv4Network | ipaddress.IPv6Network, form: str
) -> None:
    first = network[0]

    assert is_closed(first)
    assert not is_public(first)
    assert isinstance(first, IPv6Address) or is_closed(WRAPPED[form](first))


@pytest.mark.parametrize(
    ("prefix", "place", "expected"),
    [
        ("2001:db8:122::", 48, "2001:db8:122:c000:2:2100::"),
        ("2001:db8:122:300::", 56, "2001:db8:122:3c0:0:221::"),
        ("2001:db8:122:344::", 64, "2001:db8:122:344:c0:2:2100::"),
    ],
)
def test_the_wrapping_is_that_of_rfc_6052(prefix: str, place: int, expected: str) -> None:
    assert at_bit(prefix, place)(IPv4Address("192.0.2.33")) == IPv6Address(expected)
