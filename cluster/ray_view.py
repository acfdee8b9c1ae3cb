"""The nodes of a running Ray cluster, asked from this process or safely from another one.

A process that is connected to Ray calls `nodes()`. `python -m cluster.ray_view ADDRESS` connects,
prints the same as JSON and exits. It is for a caller that must not hang or die with Ray. A dead
cluster leaves its address behind. Ray's C++ core may then wait for minutes or abort its process.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

ACCELERATOR = "accelerator_type:"
CONNECT_TIMEOUT_S = 3.0
# In the errors that Ray's core prints to stderr while it retries for a minute.
NO_TOKEN = b"InvalidAuthToken"
WANTS_TOKEN = "Ray runs and wants its token: set RAY_AUTH_MODE=token (and RAY_AUTH_TOKEN_PATH)"


@dataclass(frozen=True, slots=True)
class RayNode:
    """One node of the cluster, with the resources that Ray counts for it."""

    node_id: str
    host: str
    is_alive: bool
    is_this: bool = False  # whether this process runs on the node
    num_cpus: float = 0.0
    num_gpus: float = 0.0
    accelerator_type: str = ""
    memory_mib: int = 0
    object_store_mib: int = 0


@dataclass(frozen=True, slots=True)
class RayView:
    """A cluster, or in `failure` the reason why none could be joined."""

    address: str = ""
    nodes: tuple[RayNode, ...] = ()
    failure: str = ""

    @property
    def this(self) -> RayNode | None:
        return next((node for node in self.nodes if node.is_this), None)


def to_node(node: Mapping[str, Any], this_id: str = "") -> RayNode:
    """The node of one entry of `ray.nodes()`."""
    resources: Mapping[str, float] = node.get("Resources") or {}
    types = [key.removeprefix(ACCELERATOR) for key in resources if key.startswith(ACCELERATOR)]
    return RayNode(
        node_id=node["NodeID"],
        host=node.get("NodeManagerHostname") or node.get("NodeManagerAddress") or "",
        is_alive=bool(node["Alive"]),
        is_this=node["NodeID"] == this_id,
        num_cpus=resources.get("CPU", 0.0),
        num_gpus=resources.get("GPU", 0.0),
        accelerator_type=types[0] if types else "",
        memory_mib=int(resources.get("memory", 0.0) / 2**20),
        object_store_mib=int(resources.get("object_store_memory", 0.0) / 2**20),
    )


def nodes() -> list[RayNode]:
    """The nodes of the cluster that this process is connected to, also dead ones."""
    import ray

    this_id = ray.get_runtime_context().get_node_id()
    return [to_node(node, this_id) for node in ray.nodes()]  # type: ignore[no-untyped-call]


def look(address: str, *, timeout_s: float) -> RayView:
    """The cluster at `address`, asked from another process. "auto": this machine's cluster."""
    host, _, port = address.rpartition(":")
    if port.isdigit() and not _accepts(host, int(port)):
        return RayView(failure=f"nothing listens at {address}")  # Ray would try for half a minute
    command = [sys.executable, "-m", "cluster.ray_view", address]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s)
    except subprocess.TimeoutExpired as error:
        words = error.stderr or b""
        if NO_TOKEN in words:
            return RayView(failure=WANTS_TOKEN)
        return RayView(failure=f"Ray at {address} did not answer within {timeout_s:g} s")
    return read(done.stdout, done.stderr)


def _accepts(host: str, port: int) -> bool:
    try:
        socket.create_connection((host.strip("[]"), port), timeout=CONNECT_TIMEOUT_S).close()
    except OSError:
        return False
    return True


def read(stdout: str, stderr: str) -> RayView:
    """The view that the other process printed; if it died, its last line is the failure."""
    if NO_TOKEN in stderr.encode():
        return RayView(failure=WANTS_TOKEN)
    lines = [line for line in stdout.splitlines() if line.startswith("{")]
    if not lines:
        words = stderr.strip().splitlines()
        return RayView(failure=words[-1] if words else "the process that asked Ray died")
    view = json.loads(lines[-1])
    found = tuple(RayNode(**node) for node in view["nodes"])
    return RayView(view["address"], found, view["failure"])


def connect(address: str) -> None:
    """Joins a running Ray. Raises ConnectionError, with one line of text, if none runs."""
    import ray

    from deployments.loopback import joining

    if ray.is_initialized():
        return
    try:
        with contextlib.redirect_stderr(io.StringIO()), joining(address):
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError) as error:
        said = str(error).strip() or type(error).__name__
        raise ConnectionError(said.splitlines()[0].split(". ")[0]) from None


def main(arguments: Sequence[str]) -> None:
    view = RayView()
    try:
        import ray

        connect(arguments[0])
        view = RayView(ray.get_runtime_context().gcs_address, tuple(nodes()))
    except ConnectionError as error:
        view = RayView(failure=str(error))
    print(json.dumps(asdict(view)))


if __name__ == "__main__":
    main(sys.argv[1:])
