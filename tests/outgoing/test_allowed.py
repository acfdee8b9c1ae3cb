"""What the operator opens is open, and nothing beside it."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from deployments.core.errors import UrlRefused
from deployments.outgoing.allowed import Allowed, allowed

PUBLIC = "93.184.215.14"
NOTHING = allowed()
INTRANET = allowed(
    ["files.corp", "minio:9000", "10.1.2.3:8080", "[fd00::5]:8080", "例子.测试"],
    ["10.20.0.0/16", "fd12::/16", "100.64.0.0/10"],
)


def passes(policy: Allowed, host: str, port: int, *addresses: str) -> bool:
    try:
        policy.check(host, port, [ip_address(text) for text in addresses])
    except UrlRefused:
        return False
    return True


@pytest.mark.parametrize("port", [80, 443])
def test_a_public_host_is_allowed_on_two_ports(port: int) -> None:
    assert passes(NOTHING, "a.example", port, PUBLIC, "2606:4700::1111")


@pytest.mark.parametrize("port", [0, 22, 25, 79, 81, 6379, 8080, 8443, 65535])
def test_no_other_port_is(port: int) -> None:
    assert not passes(NOTHING, "a.example", port, PUBLIC)


@pytest.mark.parametrize(
    "addresses",
    [(), ("10.0.0.5",), (PUBLIC, "127.0.0.1"), ("10.0.0.5", PUBLIC), (PUBLIC, "::1")],
)
def test_one_address_that_is_not_public_closes_the_host(addresses: tuple[str, ...]) -> None:
    assert not passes(NOTHING, "a.example", 80, *addresses)


@pytest.mark.parametrize(
    ("host", "port", "address"),
    [
        ("files.corp", 80, "10.0.0.5"),
        ("files.corp", 443, "127.0.0.1"),
        ("minio", 9000, "192.168.1.1"),
        ("10.1.2.3", 8080, "10.1.2.3"),
        ("fd00::5", 8080, "fd00::5"),
        ("xn--fsqu00a.xn--0zwm56d", 443, "10.0.0.5"),
        ("any.example", 80, "10.20.30.40"),
        ("any.example", 80, "::ffff:10.20.30.40"),
        ("any.example", 443, "64:ff9b::10.20.30.40"),
        ("any.example", 443, "fd12::1"),
    ],
)
def test_what_the_settings_name_is_open(host: str, port: int, address: str) -> None:
    assert passes(INTRANET, host, port, address)
    assert not passes(NOTHING, host, port, address)


@pytest.mark.parametrize(
    ("host", "port", "address"),
    [
        ("files.corp", 8080, "10.0.0.5"),
        ("minio", 80, "192.168.1.1"),
        ("other.corp", 80, "10.0.0.5"),
        ("files.corp.example", 80, "10.0.0.5"),
        ("any.example", 8080, "10.20.30.40"),
        ("any.example", 80, "10.21.0.1"),
        ("any.example", 80, "::ffff:10.21.0.1"),
    ],
)
def test_nothing_beside_it_is_open(host: str, port: int, address: str) -> None:
    assert not passes(INTRANET, host, port, address)


@pytest.mark.parametrize(
    "address",
    [
        *("169.254.169.254", "100.100.100.200", "fd00:ec2::254", "0.0.0.0", "::", "224.0.0.1"),
        *("::ffff:169.254.169.254", "::169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::"),
        *("fe80::1", "168.63.129.16", "255.255.255.255"),
    ],
)
def test_no_setting_opens_the_metadata_of_a_cloud(address: str) -> None:
    everything = allowed(["files.corp"], ["0.0.0.0/0", "::/0"])

    assert not passes(everything, "files.corp", 80, address)
    assert not passes(everything, "any.example", 80, address)


@pytest.mark.parametrize(
    ("hosts", "networks"),
    [(["http://files.corp"], []), (["a:b"], []), (["0x7f.1"], []), ([], ["10.0.0.1/8"])],
)
def test_a_setting_that_cannot_be_read_is_an_error(hosts: list[str], networks: list[str]) -> None:
    with pytest.raises(ValueError, match=r"host"):
        allowed(hosts, networks)
