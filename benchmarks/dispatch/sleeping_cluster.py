"""A Ray cluster of five nodes on one machine, whose GPUs only sleep.

The deployments are those that serve: `app.stages` binds them. A `Sender` stands in for the router.
Only the model is missing: a batch sleeps for as long as its card would take.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import psutil
import ray
from ray import serve
from ray.cluster_utils import Cluster

from benchmarks.dispatch.cards import CARDS, STAGE_CPUS
from benchmarks.dispatch.sender import Run, Sender
from benchmarks.machine import environment
from deployments.app import stages
from deployments.config import AppConfig

READY_S = 90.0
SETTLED_S = 12.0  # the scheduler holds a dead replica's place empty for 10 s (its pools.py)


class Sleeping:
    """The running cluster, and the application that is deployed on it."""

    def __init__(self, cluster: Any, nodes: dict[str, Any]) -> None:
        self._cluster, self._nodes = cluster, nodes
        self._sender: Any = None

    def deploy(self, settings: AppConfig, *, audio_s: int) -> None:
        """Starts the application anew; returns once the dispatcher counts all replicas."""
        sender = serve.deployment(
            name="Sender",
            max_ongoing_requests=4,
            ray_actor_options={"num_cpus": STAGE_CPUS},
        )
        assert settings.pools != "auto"
        wanted = {name: pool.min_replicas for name, pool in settings.pools.items()}
        application = sender(Sender).bind(stages(settings), audio_s)
        self._sender = serve.run(application, name="sleeping", route_prefix=None)
        self.wait_for(wanted)

    def wait_for(self, wanted: Mapping[str, int]) -> None:
        """Waits until the dispatcher counts these replicas. Raises TimeoutError."""
        deadline_s = time.monotonic() + READY_S
        while self._sender.replicas.remote().result(timeout_s=READY_S) != wanted:
            if time.monotonic() > deadline_s:
                raise TimeoutError(f"The pools never had the replicas {wanted}.")
            time.sleep(0.2)

    def start(self, *arguments: Any, **more: Any) -> Any:
        """Begins `Sender.recognise`; returns its response, which may still be outstanding."""
        return self._sender.recognise.remote(*arguments, **more)

    def recognise(self, *arguments: Any, **more: Any) -> Run:
        """The result of `Sender.recognise`."""
        run: Run = self.start(*arguments, **more).result(timeout_s=300)
        return run

    def replica_pids(self, pool: str) -> list[int]:
        """The process ids of the pool's replicas."""
        title = f"ray::ServeReplica:sleeping:Asr-{pool}"
        return [
            process.pid
            for process in psutil.Process().children(recursive=True)
            if process.status() != psutil.STATUS_ZOMBIE and title in " ".join(process.cmdline())
        ]

    def wait_until_replaced(self, pool: str, pid: int) -> None:
        """Waits until Serve has replaced the replica that died. Raises TimeoutError."""
        deadline_s = time.monotonic() + READY_S
        n_replicas = self._sender.replicas.remote().result(timeout_s=READY_S)[pool]
        while pid in self.replica_pids(pool) or len(self.replica_pids(pool)) < n_replicas:
            if time.monotonic() > deadline_s:
                raise TimeoutError(f"The replica {pid} of {pool} was not replaced.")
            time.sleep(0.2)
        time.sleep(SETTLED_S)

    def kill_node(self, card: str) -> None:
        """Ends the card's node at once, as a power failure would."""
        self._cluster.remove_node(self._nodes[card], allow_graceful=False)


@contextmanager
def sleeping_cluster() -> Iterator[Sleeping]:
    """Starts a head and one node for every card; ends them on leaving."""
    changes = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_SERVE_CONTROL_LOOP_INTERVAL_S": "0.5"}
    with environment(changes | {"grpc_proxy": ""}):  # or gRPC takes `http_proxy`
        yield from _started()


def _started() -> Iterator[Sleeping]:
    cluster = Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": 8,
            "include_dashboard": False,
            "labels": {"card": "none"},
            "_system_config": {
                "health_check_initial_delay_ms": 0,
                "health_check_period_ms": 500,
                "health_check_failure_threshold": 4,
            },
        },
    )
    try:
        nodes = {name: cluster.add_node(num_cpus=1, labels={"card": name}) for name in CARDS}
        ray.init(address=cluster.address, log_to_driver=False)
        serve.start(proxy_location="Disabled")
        yield Sleeping(cluster, nodes)
    finally:
        serve.shutdown()  # type: ignore[no-untyped-call]
        ray.shutdown()
        cluster.shutdown()  # type: ignore[no-untyped-call]
