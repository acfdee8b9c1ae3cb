"""A Ray that listens on loopback alone: how it is started, and how other programs here join it.

Ray replaces 127.0.0.1 by the address of the machine, except where `ENABLE_RAY_CLUSTER` is off. So
it is on macOS and Windows.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from ray._private import ray_constants, services

LOOPBACK = "127.0.0.1"
HOSTS = ("localhost", LOOPBACK, "::1")
CONNECT_TIMEOUT_S = 3.0


@contextmanager
def on_loopback() -> Iterator[None]:
    """A Ray that is started meanwhile listens on 127.0.0.1, and one that does so can be joined.

    Ray reads the variable at import, so the constant that holds it is set too. Ray's processes
    inherit the variable. The gRPC port of each Serve replica stays open on all addresses.
    """
    variable = ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR
    before, was_set = ray_constants.ENABLE_RAY_CLUSTER, os.environ.get(variable)
    ray_constants.ENABLE_RAY_CLUSTER, os.environ[variable] = False, "0"
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before
        del os.environ[variable]
        if was_set is not None:
            os.environ[variable] = was_set


def joining(address: str | None) -> Any:
    """The context in which `ray.init(address)` joins a cluster. None and "auto": this machine's."""
    if address in (None, "auto"):
        address = services.get_ray_address_from_environment("auto", None)
    host, _, port = (address or "").rpartition(":")
    if host.strip("[]") not in HOSTS or not port.isdigit():
        return nullcontext()
    machine = services.get_node_ip_address()  # type: ignore[no-untyped-call]
    return nullcontext() if _listens(machine, int(port)) else on_loopback()


def _listens(host: str, port: int) -> bool:
    """Whether a Ray that others can reach has this port. It is joined as Ray does by itself."""
    try:
        socket.create_connection((host, port), timeout=CONNECT_TIMEOUT_S).close()
    except OSError:
        return False
    return True
