"""The GPU samplers that the application keeps running, on real Ray with a fake NVML."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import httpx
import pytest
import ray
from ray import serve
from ray.cluster_utils import Cluster
from ray.serve.handle import DeploymentHandle

from cluster.gpu_metrics import NAMESPACE, SAMPLER, Samplers, keep_sampling
from cluster.gpus import Reading, read_gpus
from cluster.ray_view import nodes
from cluster.watch.command import cluster_hardware
from deployments.config import AutoscalingSettings, DispatcherSettings
from deployments.core.scheduler.planning import PoolSpec
from deployments.dispatcher import Dispatcher
from tests.cluster.fake_nvml import Card, FakeNvml

pytestmark = pytest.mark.ray

T = TypeVar("T")
SPEC = PoolSpec("T4", 60_000, 100.0, 50, 8, 30_000)
WAIT_S = 60.0


def fake_reading() -> Reading:
    """One card. On the node with the label "broken" NVML fails in an unexpected way."""
    if ray.get_runtime_context().get_node_labels().get("nvml") == "broken":
        raise RuntimeError("no such failure is known")
    return read_gpus(FakeNvml([Card(Name=f"Tesla T4 of {os.getpid()}")]))


def nobody_s_reading() -> Reading:
    raise AssertionError("the application's sampler should have been asked")


@dataclass(frozen=True)
class Watched:
    """The real dispatcher on a cluster with a head without GPUs and a node with one GPU."""

    cluster: Any
    dispatcher: DeploymentHandle[Any]
    metrics_port: int  # of the GPU node


@pytest.fixture(scope="module")
def watched() -> Iterator[Watched]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    quick = {"metrics_report_interval_ms": 1000}
    head = {"num_cpus": 2, "include_dashboard": False, "_system_config": quick}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        cluster.add_node(num_cpus=0, num_gpus=1, metrics_export_port=port)
        ray.init(address=cluster.address, log_to_driver=False)
        serve.start(proxy_location="Disabled")
        sampling = partial(keep_sampling, check_s=0.5, read=fake_reading)
        settings = DispatcherSettings(), {"T4": "Asr-T4"}, AutoscalingSettings()
        dispatcher = serve.deployment(Dispatcher).bind([SPEC], *settings, sampling)
        yield Watched(cluster, serve.run(dispatcher, route_prefix=None), port)
    finally:
        serve.shutdown()
        ray.shutdown()
        cluster.shutdown()


def before_long(look: Callable[[], T | None]) -> T:
    """The first result of `look` that is not None. Fails after WAIT_S."""
    deadline_s = time.monotonic() + WAIT_S
    while time.monotonic() < deadline_s:
        found = look()
        if found is not None:
            return found
        time.sleep(0.25)
    raise AssertionError(f"nothing was found within {WAIT_S:g} s")


def reading(node_id: str) -> Reading | None:
    """The reading of the node's sampler, None if it has none."""
    try:
        sampler = ray.get_actor(f"{SAMPLER}{node_id}", NAMESPACE)
        found: Reading = ray.get(sampler.latest.remote(), timeout=WAIT_S)
    except (ValueError, ray.exceptions.RayError):
        return None
    return found


def gpu_node() -> str:
    """The id of the first living node with a GPU."""
    return next(node.node_id for node in nodes() if node.num_gpus and node.is_alive)


def test_top_reads_the_samplers_of_the_application(watched: Watched) -> None:
    before_long(lambda: reading(gpu_node()))

    found, gpus = cluster_hardware(0.5, nobody_s_reading)()

    [(host, shown)] = gpus.items()
    [card] = shown.gpus
    [without] = [node for node in found if not node.num_gpus]
    assert host in {node.host for node in found}
    assert card.utilization_percent == 76
    assert card.name.startswith("Tesla T4 of ")
    assert card.name != f"Tesla T4 of {os.getpid()}"
    assert reading(without.node_id) is None


def test_a_sampler_that_dies_is_replaced(watched: Watched) -> None:
    first = before_long(lambda: reading(gpu_node()))
    ray.kill(ray.get_actor(f"{SAMPLER}{gpu_node()}", NAMESPACE))

    def another() -> Reading | None:
        found = reading(gpu_node())
        return found if found != first else None

    assert before_long(another).gpus[0].name != first.gpus[0].name


def test_ray_exports_the_figures_with_its_metrics(watched: Watched) -> None:
    def power() -> str | None:
        try:
            text = httpx.get(f"http://127.0.0.1:{watched.metrics_port}/metrics", timeout=5).text
        except httpx.HTTPError:
            return None
        rows = [row for row in text.splitlines() if row.startswith("ray_asr_gpu_power_watts{")]
        return rows[0] if rows else None

    sample = before_long(power)

    assert sample.endswith("} 43.512")
    assert 'gpu="0"' in sample


def test_a_joining_node_gets_a_sampler_and_its_failures_affect_no_other(watched: Watched) -> None:
    before, first = {node.node_id for node in nodes()}, gpu_node()
    joining = watched.cluster.add_node(num_cpus=0, num_gpus=1, labels={"nvml": "broken"})
    try:
        [joined] = before_long(lambda: {node.node_id for node in nodes()} - before or None)

        failed, works = before_long(lambda: reading(joined)), reading(first)
        assert failed.gpus == ()
        assert [problem.kind for problem in failed.problems] == ["unknown"]
        assert works is not None
        assert works.gpus
        told = watched.dispatcher.snapshot.remote().result(timeout_s=WAIT_S)
        assert told["pools"].keys() == {"T4"}
    finally:
        watched.cluster.remove_node(joining)


def test_a_hanging_sampler_is_asked_once_and_does_not_block(watched: Watched) -> None:
    class Hanging:
        def latest(self) -> Reading:
            time.sleep(WAIT_S)
            return Reading()

    node_id = gpu_node()
    samplers = Samplers(read=nobody_s_reading)
    samplers._actors[node_id] = ray.remote(num_cpus=0)(Hanging).remote()
    began_s = time.monotonic()

    first = samplers.latest({node_id: "gpu-1"}, timeout_s=0.2)
    question = samplers._asked[node_id]
    second = samplers.latest({node_id: "gpu-1"}, timeout_s=0.2)

    assert (first, second) == ({}, {})
    assert samplers._asked == {node_id: question}
    assert time.monotonic() - began_s < WAIT_S / 2
