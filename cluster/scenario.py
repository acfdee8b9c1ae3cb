"""What is simulated, and what comes of it, as data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from deployments.core.planning import PoolSpec

Choice: TypeAlias = Literal["named", "pow2"]  # a chunk's replica in its pool: the one that the
# scheduler names, or the less busy of two at random, which is what Serve does unless told


@dataclass(frozen=True, slots=True)
class Truth:
    """What a pool's replicas really do, and what the scheduler is told of them."""

    prior: PoolSpec
    n_replicas: int
    speed: float  # audio seconds per second
    overhead_ms: float
    max_replicas: int = 0  # with a policy; 0: as many as at the beginning
    price: float = 1.0  # of a replica and hour
    each: tuple[tuple[float, float], ...] = ()  # speed and overhead of each, where they differ

    def of(self, gpu: int) -> tuple[float, float]:
        """Speed and overhead of the replica on that GPU of the pool."""
        return self.each[gpu % len(self.each)] if self.each else (self.speed, self.overhead_ms)


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request: when it comes, and its segments."""

    at_ms: float
    name: str
    lengths_ms: tuple[int, ...]
    interactive: bool | None = None


@dataclass(frozen=True, slots=True)
class Trouble:
    """What goes wrong. `noise` is the sigma of the log-normal factor on every service time."""

    noise: float = 0.0
    stragglers: float = 0.0  # part of the replicas that are slower
    straggler_factor: float = 4.0
    deaths_per_hour: float = 0.0  # of each replica
    replace_ms: float = 0.0  # a replica that died is there again after this; 0: its start time
    notice_ms: float = 2_000.0  # how often running replicas are counted
    kills: tuple[tuple[float, str], ...] = ()  # one replica of the pool at this time
    poison: tuple[tuple[str, int], ...] = ()  # (request, segment): whoever has it dies


@dataclass(frozen=True, slots=True)
class PoolNow:
    """A pool as an autoscaling policy sees it; backlog and accepted audio are of all pools."""

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
    given_up: int


@dataclass(frozen=True, slots=True)
class Sample:
    """The cluster at one moment, for the plot."""

    at_ms: float
    waiting_s: float
    replicas: Mapping[str, int]


@dataclass(slots=True)
class Outcome:
    """What a simulation gives."""

    done: list[Done] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    refused: int = 0
    n_chunks: int = 0
    n_deaths: int = 0
    n_hedges: int = 0
    scheduling_s: float = 0.0  # CPU time in the scheduler
    busy_ms: dict[str, float] = field(default_factory=dict)
    answers: dict[str, list[int]] = field(default_factory=dict)  # segments as first answered

    @property
    def scheduling_us_per_chunk(self) -> float:
        return self.scheduling_s * 1e6 / max(1, self.n_chunks)
