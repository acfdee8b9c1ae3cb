"""What a sampler tells where NVML fails, and a node that gets none: without Ray."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from cluster import gpu_metrics
from cluster.gpu_metrics import PROBLEMS, GpuSampler, Samplers
from cluster.gpus import Reading, read_gpus
from tests.cluster.fake_nvml import Card, FakeNvml

GOOD = read_gpus(FakeNvml([Card()]))
HOURS_S = 1e5  # the sampler's own thread never comes to a second sample


class NotedGauge:
    """A gauge that keeps the last value; all of them by name."""

    values: dict[str, float]

    def __init__(self, name: str, description: str, tag_keys: tuple[str, ...]) -> None:
        self._name = name

    def set(self, value: float, tags: dict[str, str]) -> None:
        self.values[self._name] = value


@pytest.fixture
def gauges(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    NotedGauge.values = {}
    monkeypatch.setattr(gpu_metrics, "Gauge", NotedGauge)
    return NotedGauge.values


def script(*steps: Reading | Exception) -> Callable[[], Reading]:
    left = list(steps)

    def read() -> Reading:
        step = left.pop(0)
        if isinstance(step, Exception):
            raise step
        return step

    return read


def test_a_failure_that_nobody_foresaw_is_a_problem_until_a_sample_goes_well(
    gauges: dict[str, float],
) -> None:
    sampler = GpuSampler("here", HOURS_S, script(GOOD, RuntimeError("no such failure"), GOOD))
    before = gauges[PROBLEMS]

    sampler._sample()
    meanwhile, failed = gauges[PROBLEMS], sampler.latest()
    sampler._sample()

    assert (before, meanwhile, gauges[PROBLEMS]) == (0.0, 1.0, 0.0)
    assert failed.gpus == ()
    assert [problem.what for problem in failed.problems] == ["NVML failed: no such failure"]
    assert sampler.latest() == GOOD


@pytest.mark.parametrize(
    ("steps", "n_lines"),
    [
        ([RuntimeError("a")] * 4, 1),
        ([RuntimeError("a"), RuntimeError("b"), RuntimeError("b")], 2),
        ([RuntimeError("a"), GOOD, RuntimeError("a")], 2),
    ],
    ids=["the same", "another", "again"],
)
@pytest.mark.usefixtures("gauges")
def test_the_log_tells_a_failure_once(
    steps: list[Any], n_lines: int, caplog: pytest.LogCaptureFixture
) -> None:
    sampler = GpuSampler("here", HOURS_S, script(GOOD, *steps))

    for _ in steps:
        sampler._sample()

    assert len(caplog.records) == n_lines


def test_a_node_that_gets_no_sampler_keeps_none_from_the_others(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    started: list[str] = []

    class Failing(Samplers):
        def _start(self, node_id: str, host: str) -> Any:
            started.append(node_id)
            if len(started) == 1:
                raise ValueError("this node is leaving")
            return _Sampler()

    monkeypatch.setattr(gpu_metrics.ray, "wait", lambda refs, **_: (refs, []))
    monkeypatch.setattr(gpu_metrics.ray, "get", lambda ref: ref)
    samplers = Failing()
    hosts = {"1": "one", "2": "two", "3": "three"}

    first = samplers.latest(hosts, timeout_s=1.0)
    second = samplers.latest(hosts, timeout_s=1.0)

    assert first == dict.fromkeys(started[1:3], GOOD)
    assert second == dict.fromkeys(hosts, GOOD)
    assert len(caplog.records) == 1


class _Sampler:
    """An actor whose answer is there at once."""

    @property
    def latest(self) -> Any:
        return self

    def remote(self) -> Reading:
        return GOOD
