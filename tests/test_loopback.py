"""How a Ray is started: which one is on loopback, and the environment of its processes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from ray._private import ray_constants, services

from deployments.loopback import joining, on_loopback
from deployments.serve import FOR_RAY

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


ROOT = Path(__file__).resolve().parent.parent
AS_ONE_WISHES = {"RAY_USAGE_STATS_ENABLED", "RAY_SERVE_CONTROL_LOOP_INTERVAL_S"}

CALL_ON_LOOPBACK = """
import asyncio
import grpc
from ray._private.grpc_utils import init_grpc_channel  # Serve's own

async def answer(request, context):
    return b"answered"

async def main():
    server = grpc.aio.server()
    methods = {"call": grpc.unary_unary_rpc_method_handler(answer)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("here", methods),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    channel = init_grpc_channel(f"127.0.0.1:{port}", asynchronous=True)
    try:
        print((await channel.unary_unary("/here/call")(b"", timeout=20)).decode())
    finally:
        await channel.close()
        await server.stop(None)

asyncio.run(main())
"""


def call_with(environment: Mapping[str, str]) -> str:
    """What a call by gRPC to this machine prints in a process with this environment."""
    clean = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    done = subprocess.run(
        [sys.executable, "-c", CALL_ON_LOOPBACK],
        env=clean | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.stdout.strip()


def is_asked(proxy: socket.socket) -> bool:
    """Whether somebody has connected to the proxy."""
    proxy.settimeout(0)
    try:
        proxy.accept()[0].close()
    except BlockingIOError:
        return False
    return True


@pytest.mark.slow
@pytest.mark.parametrize("name", ["http_proxy", "https_proxy"])
def test_calls_between_replicas_pass_no_proxy_of_the_environment(name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        url = f"http://127.0.0.1:{proxy.getsockname()[1]}"

        printed = call_with({name: url} | FOR_RAY)

        assert (printed, is_asked(proxy)) == ("answered", False)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_manual_exports_what_the_processes_of_ray_need(language: str) -> None:
    page = (ROOT / "docs" / language / "machines.md").read_text(encoding="utf-8")

    needed = {name: value for name, value in FOR_RAY.items() if name not in AS_ONE_WISHES}
    missing = [line for n, v in needed.items() if (line := f"export {n}={v}\n") not in page]
    assert not missing
