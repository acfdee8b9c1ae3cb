"""The sampling actor on a real Ray, with a fake NVML under it."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator

import httpx
import pytest
import ray

from cluster.gpu_metrics import Samplers
from cluster.gpus import Reading, read_gpus
from cluster.ray_view import nodes
from cluster.top import cluster_hardware
from tests.cluster.fake_nvml import Card, FakeNvml

pytestmark = pytest.mark.ray


def fake_reading() -> Reading:
    return read_gpus(FakeNvml([Card(Name=f"Tesla T4 of {os.getpid()}")]))


@pytest.fixture(scope="module")
def metrics_port() -> Iterator[int]:
    """A Ray of its own with one GPU that is not there."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    ray.init(
        address="local",
        num_cpus=1,
        num_gpus=1,
        include_dashboard=False,
        log_to_driver=False,
        _metrics_export_port=port,
        _system_config={"metrics_report_interval_ms": 1000},
    )
    yield port
    ray.shutdown()


def test_each_node_s_cards_are_read_by_a_process_on_it(metrics_port: int) -> None:
    found, gpus = cluster_hardware(0.5, fake_reading)()

    (node,) = found
    ((host, reading),) = gpus.items()
    assert (node.num_gpus, node.is_this, node.host) == (1.0, True, host)
    assert reading.gpus[0].utilization_percent == 76
    assert reading.gpus[0].name != f"Tesla T4 of {os.getpid()}"


def test_a_sampler_that_dies_is_replaced(metrics_port: int) -> None:
    samplers = Samplers(interval_s=0.5, read=fake_reading)
    hosts = {node.node_id: node.host for node in nodes()}
    (node_id,) = hosts
    first = samplers.latest(hosts, timeout_s=60)
    ray.kill(samplers._actors[node_id])
    deadline_s = time.monotonic() + 60
    later = first

    while later in (first, {}) and time.monotonic() < deadline_s:  # the kill takes its time
        later = samplers.latest(hosts, timeout_s=10)

    assert later[node_id].gpus[0].name != first[node_id].gpus[0].name


def test_the_figures_are_among_ray_s_metrics(metrics_port: int) -> None:
    samplers = Samplers(interval_s=0.5, read=fake_reading)
    samplers.latest({node.node_id: node.host for node in nodes()}, timeout_s=60)
    deadline_s = time.monotonic() + 60
    text = ""

    while "ray_asr_gpu_utilization_percent{" not in text and time.monotonic() < deadline_s:
        time.sleep(0.5)
        try:
            text = httpx.get(f"http://127.0.0.1:{metrics_port}/metrics", timeout=5).text
        except httpx.HTTPError:
            continue

    sample = [row for row in text.splitlines() if row.startswith("ray_asr_gpu_power_watts{")]
    assert sample
    assert sample[0].endswith("} 43.512")
    assert 'gpu="0"' in sample[0]
