"""Which Ray is joined as one on loopback, and what is changed meanwhile."""

from __future__ import annotations

import os
import socket

import pytest
from ray._private import ray_constants, services

from deployments.loopback import joining, on_loopback

VARIABLE = ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR


def is_on_loopback(address: str | None) -> bool:
    """Whether `address` would be joined as a Ray on loopback."""
    with joining(address):
        return not ray_constants.ENABLE_RAY_CLUSTER


@pytest.mark.parametrize("before", [None, "1"])
def test_all_is_as_before_after_a_start(
    monkeypatch: pytest.MonkeyPatch, before: str | None
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    if before is not None:
        monkeypatch.setenv(VARIABLE, before)

    with on_loopback():
        meanwhile = os.environ[VARIABLE]
        address = services.get_node_ip_address()  # type: ignore[no-untyped-call]

    assert (meanwhile, address) == ("0", "127.0.0.1")
    assert os.environ.get(VARIABLE) == before
    assert ray_constants.ENABLE_RAY_CLUSTER


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_ray_that_others_cannot_reach_is_on_loopback(host: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert is_on_loopback(f"{host}:{listener.getsockname()[1]}")


def test_a_ray_that_others_can_reach_is_joined_at_the_address_of_the_machine() -> None:
    with socket.create_server(("", 0)) as listener:
        assert not is_on_loopback(f"127.0.0.1:{listener.getsockname()[1]}")


@pytest.mark.parametrize("address", ["10.0.0.7:6379", "ray://127.0.0.1:10001", "local", "head:1"])
def test_other_addresses_are_left_alone(address: str) -> None:
    assert not is_on_loopback(address)


def test_the_ray_of_this_machine_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{listener.getsockname()[1]}")

        assert is_on_loopback(None)
        assert is_on_loopback("auto")
