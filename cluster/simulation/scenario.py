"""The input and the output of a simulation, as data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from deployments.core.scheduler.planning import PoolSpec


@dataclass(frozen=True, slots=True)
class Truth:
    """How fast a pool's replicas really are, and what the scheduler is told about them."""

    prior: PoolSpec
    n_replicas: int
    speed: float  # audio seconds per second
    overhead_ms: float
    max_replicas: int = 0  # bound for the autoscaling policy; 0: `n_replicas`
    price: float = 1.0  # of one replica for one hour
    each: tuple[tuple[float, float], ...] = ()  # (speed, overhead_ms) by GPU, where GPUs differ

    def of(self, gpu: int) -> tuple[float, float]:
        """Speed and overhead (ms) of the replica on the pool's GPU of this number."""
        return self.each[gpu % len(self.each)] if self.each else (self.speed, self.overhead_ms)


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request: when it arrives, and how long its segments are."""

    at_ms: float
    name: str
    lengths_ms: tuple[int, ...]
    interactive: bool | None = None


@dataclass(frozen=True, slots=True)
class Trouble:
    """What goes wrong during a simulation."""

    noise: float = 0.0  # sigma of the log-normal factor on every batch's time
    stragglers: float = 0.0  # share of the replicas that are slower, by `straggler_factor`
    straggler_factor: float = 4.0
    deaths_per_hour: float = 0.0  # of each replica
    replace_ms: float = 0.0  # a dead replica's successor runs after this; 0: after its start time
    notice_ms: float = 2_000.0  # how often the scheduler is told which replicas run
    kills: tuple[tuple[float, str], ...] = ()  # (time in ms, pool): one of its replicas dies then
    poison: tuple[tuple[str, int], ...] = ()  # (request, segment): kills the replica that runs it


@dataclass(frozen=True, slots=True)
class PoolNow:
    """A pool as an autoscaling policy sees it; the last two figures are of all pools together."""

    name: str
    running: int
    target: int
    min_replicas: int
    max_replicas: int
    speed: float
    price: float
    start_s: float
    backlog_s: float
    accepted_s: float


Policy: TypeAlias = Callable[[float, Sequence[PoolNow]], Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class Done:
    """A request that has ended."""

    name: str
    at_ms: float
    latency_ms: float
    audio_ms: int
    given_up: int  # segments without a result


@dataclass(frozen=True, slots=True)
class Sample:
    """The cluster at one moment, for the plot."""

    at_ms: float
    waiting_s: float
    replicas: Mapping[str, int]


@dataclass(slots=True)
class Outcome:
    """The results of a simulation."""

    done: list[Done] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    refused: int = 0
    n_chunks: int = 0
    n_deaths: int = 0
    scheduling_s: float = 0.0  # CPU time in the scheduler
    busy_ms: dict[str, float] = field(default_factory=dict)
    answers: dict[str, list[int]] = field(default_factory=dict)  # request -> segments as answered

    @property
    def scheduling_us_per_chunk(self) -> float:
        return self.scheduling_s * 1e6 / max(1, self.n_chunks)
