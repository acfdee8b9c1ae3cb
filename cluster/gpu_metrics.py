"""Exports GPU figures as metrics: a small actor on every GPU node samples NVML.

Ray publishes the gauges with its own metrics, on the metrics port of every node, under `ray_` and
the names below. The actors need no CPU share and no GPU.

The actors are named, so that the application, which keeps them running, and `top` read the same
ones. An actor ends with the process that started it. The next process that needs it starts it anew.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.metrics import Gauge
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.gpus import Gpu, Reading, problem_of, read_gpus
from cluster.ray_view import RayNode, nodes

logger = logging.getLogger("ray.serve")

NAMESPACE, SAMPLER = "paraformer-cluster", "gpu-sampler-"  # the node's id follows
CHECK_S = 10.0  # how often nodes without a sampler are searched for
TAGS = ("host", "gpu", "gpu_name", "uuid")


@dataclass(frozen=True, slots=True)
class Figure:
    """One exported figure of a card. It is not exported where `of` gives None."""

    description: str
    of: Callable[[Gpu], float | None]


FIGURES = {
    "asr_gpu_utilization_percent": Figure(
        "Share of the time in which a kernel ran.", lambda gpu: gpu.utilization_percent
    ),
    "asr_gpu_memory_used_mib": Figure("Memory in use.", lambda gpu: gpu.memory_used_mib),
    "asr_gpu_memory_total_mib": Figure("Memory of the card.", lambda gpu: gpu.memory_total_mib),
    "asr_gpu_temperature_celsius": Figure("Core temperature.", lambda gpu: gpu.temperature_c),
    "asr_gpu_power_watts": Figure("Power drawn.", lambda gpu: gpu.power_w),
}
PROBLEMS = "asr_gpu_problems"


def exported(reading: Reading, host: str) -> Iterator[tuple[str, float, dict[str, str]]]:
    """(name, value, tags) of everything in a reading that has a value."""
    for gpu in reading.gpus:
        tags = {"host": host, "gpu": str(gpu.index), "gpu_name": gpu.name, "uuid": gpu.uuid}
        for name, figure in FIGURES.items():
            value = figure.of(gpu)
            if value is not None:
                yield name, float(value), tags
    yield PROBLEMS, float(len(reading.problems)), {"host": host}


class GpuSampler:
    """The actor. It reads the GPUs every `interval_s` on a thread of its own."""

    def __init__(self, host: str, interval_s: float, read: Callable[[], Reading]) -> None:
        self._host, self._interval_s, self._read = host, interval_s, read
        self._gauges = {
            name: Gauge(name, figure.description, tag_keys=TAGS) for name, figure in FIGURES.items()
        }
        self._gauges[PROBLEMS] = Gauge(
            PROBLEMS, "Cards, or drivers, that could not be read.", tag_keys=("host",)
        )
        self._latest = Reading()
        self._failure = ""  # of the last sample, so that the same failure is logged only once
        self.sample()
        threading.Thread(target=self._keep_sampling, daemon=True).start()

    def latest(self) -> Reading:
        return self._latest

    def _keep_sampling(self) -> None:
        pause = threading.Event()
        while not pause.wait(self._interval_s):
            self.sample()

    def sample(self) -> None:
        """Reads the GPUs once, and exports what was read. A failure becomes a problem."""
        failure = ""
        try:
            self._tell(self._read())
        except Exception as error:  # the next sample may succeed, and a dead thread would not try
            self._tell(Reading(problems=(problem_of(error),)))
            failure = repr(error)
            if failure != self._failure:
                logger.exception("The GPUs could not be sampled.")
        self._failure = failure

    def _tell(self, reading: Reading) -> None:
        self._latest = reading
        for name, value, tags in exported(reading, self._host):
            self._gauges[name].set(value, tags)


class Samplers:
    """The sampler actors of the nodes that are asked for. The process must be connected to Ray."""

    def __init__(self, *, interval_s: float = 2.0, read: Callable[[], Reading] = read_gpus) -> None:
        self._interval_s, self._read = interval_s, read
        self._actors: dict[str, Any] = {}
        self._asked: dict[str, Any] = {}  # unanswered calls by node; a node gets one at a time

    def latest(self, hosts: Mapping[str, str], *, timeout_s: float) -> dict[str, Reading]:
        """Node id -> reading, of the nodes (id -> host name) that answer within `timeout_s`.

        A node whose actor has died gets a new one at the next call.
        """
        for node_id in self._actors.keys() - hosts.keys():
            self._forget(node_id)
        for node_id in hosts.keys() - self._actors.keys():
            try:
                self._actors[node_id] = self._start(node_id, hosts[node_id])
            except Exception:  # the other nodes still get theirs, and this node at a later call
                logger.exception("The node %s got no GPU sampler.", node_id)
        for node_id in self._actors.keys() - self._asked.keys():
            self._asked[node_id] = self._actors[node_id].latest.remote()
        if not self._asked:
            return {}
        waits_for = list(self._asked.values())
        done, _ = ray.wait(waits_for, num_returns=len(waits_for), timeout=timeout_s)
        return dict(self._answers(set(done)))

    def _answers(self, done: Set[Any]) -> Iterator[tuple[str, Reading]]:
        for node_id in [node_id for node_id, ref in self._asked.items() if ref in done]:
            try:
                yield node_id, ray.get(self._asked.pop(node_id))
            except RayError:
                self._forget(node_id)

    def _forget(self, node_id: str) -> None:
        del self._actors[node_id]
        self._asked.pop(node_id, None)

    def _start(self, node_id: str, host: str) -> Any:
        here = NodeAffinitySchedulingStrategy(node_id, soft=False)
        actor = ray.remote(GpuSampler)
        return actor.options(
            name=f"{SAMPLER}{node_id}",
            namespace=NAMESPACE,
            get_if_exists=True,
            num_cpus=0,
            scheduling_strategy=here,
        ).remote(host, self._interval_s, self._read)


def gpu_hosts(found: Iterable[RayNode]) -> dict[str, str]:
    """Node id -> host name, of the nodes that are alive and have GPUs."""
    return {node.node_id: node.host for node in found if node.is_alive and node.num_gpus > 0}


def keep_sampling(check_s: float = CHECK_S, read: Callable[[], Reading] = read_gpus) -> None:
    """Starts a thread that gives every GPU node a sampler, also when nodes join or actors die.

    The thread ends with its process. Any failure in it is logged and tried again. Until then only
    figures are missing.
    """
    samplers = Samplers(read=read)
    pause = threading.Event()

    def keep() -> None:
        while True:
            try:
                samplers.latest(gpu_hosts(nodes()), timeout_s=check_s)
            except Exception:
                logger.exception("The GPU samplers could not be looked after.")
            pause.wait(check_s)

    threading.Thread(target=keep, name="gpu-samplers", daemon=True).start()
