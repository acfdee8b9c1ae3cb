"""The environment of the processes that Ray starts: what it does, and that the manual says it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from deployments.serve import FOR_RAY

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
