"""The GPU sampler when NVML fails, and a node whose sampler cannot start; without Ray."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from cluster import gpu_metrics
from cluster.gpu_metrics import PROBLEMS, GpuSampler, Samplers
from cluster.gpus import Reading, read_gpus
from tests.cluster.fake_nvml import Card, FakeNvml

GOOD = read_gpus(FakeNvml([Card()]))
HOURS_S = 1e5  # so long that the sampler's own thread never samples again


class NotedGauge:
    """A gauge that notes its last value, in one dict for all gauges."""

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
    """A function to read GPUs that returns or raises these in turn."""
    left = list(steps)

    def read() -> Reading:
        step = left.pop(0)
        if isinstance(step, Exception):
            raise step
        return step

    return read


def test_an_unexpected_failure_is_a_problem_until_the_next_good_sample(
    gauges: dict[str, float],
) -> None:
    sampler = GpuSampler("here", HOURS_S, script(GOOD, RuntimeError("no such failure"), GOOD))
    before = gauges[PROBLEMS]

    sampler.sample()
    meanwhile, failed = gauges[PROBLEMS], sampler.latest()
    sampler.sample()

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
def test_a_failure_that_goes_on_is_logged_once(
    steps: list[Any], n_lines: int, caplog: pytest.LogCaptureFixture
) -> None:
    sampler = GpuSampler("here", HOURS_S, script(GOOD, *steps))

    sample_times(sampler, len(steps))

    assert len(caplog.records) == n_lines


def sample_times(sampler: GpuSampler, n_samples: int) -> None:
    for _ in range(n_samples):
        sampler.sample()


def test_a_sampler_that_cannot_start_does_not_affect_the_other_nodes(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(gpu_metrics.ray, "wait", lambda refs, **_: (refs, []))
    monkeypatch.setattr(gpu_metrics.ray, "get", lambda ref: ref)
    samplers = FirstStartFails()
    hosts = {"1": "one", "2": "two", "3": "three"}

    first = samplers.latest(hosts, timeout_s=1.0)
    second = samplers.latest(hosts, timeout_s=1.0)

    assert first == dict.fromkeys(samplers.started[1:3], GOOD)
    assert second == dict.fromkeys(hosts, GOOD)
    assert len(caplog.records) == 1


class FirstStartFails(Samplers):
    """Samplers of which the first cannot start."""

    def __init__(self) -> None:
        super().__init__()
        self.started: list[str] = []

    def _start(self, node_id: str, host: str) -> Any:
        self.started.append(node_id)
        if len(self.started) == 1:
            raise ValueError("this node is leaving")
        return _Sampler()


class _Sampler:
    """An actor that answers at once."""

    @property
    def latest(self) -> Any:
        return self

    def remote(self) -> Reading:
        return GOOD
