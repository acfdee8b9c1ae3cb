"""Where waiting segments should go so that all pools finish together (DESIGN 3). Pure.

Find the earliest time at which every waiting segment of a request can be finished if each replica
takes full batches until then (bisection), and send the first chunk of each replica that has room.
So all pools finish together, a short request uses only the fastest, and the last chunks shrink.
Work sent to a replica never moves, so little is sent ahead: about two batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

OUTSTANDING_BATCHES = 2  # per replica: one computing, one being copied in (measured: DESIGN 3)
SIMILAR = 0.5  # a chunk's shortest segment over its longest, at the least: padding is bounded
BISECTIONS = 24  # halvings of the plan's horizon: far below a millisecond for any recording


@dataclass(frozen=True, slots=True)
class PoolSpec:
    """What the scheduler knows of a pool before it has seen it work."""

    name: str
    batch_audio_ms: int  # cap on a chunk's padded audio
    speed: float  # audio seconds per second and replica, on full batches
    overhead_ms: float  # per chunk, whatever its size
    max_ongoing: int  # chunks one replica accepts at once
    start_ms: float  # how long a first replica takes to start, counted where nothing runs
    can_start: bool = False  # Serve starts a replica from zero when work waits
    price_per_hour: float = 1.0  # of one replica; where nothing runs, the cheapest starts


@dataclass(slots=True)
class PoolState:
    """A pool as it is now: its replicas, what they have, how fast they turned out to be."""

    spec: PoolSpec
    n_replicas: int = 0
    slowdown: float = 1.0  # measured time over expected time, smoothed
    outstanding: dict[int, tuple[int, float]] = field(default_factory=dict)  # padded, expected ms

    def chunk_ms(self, padded_ms: float) -> float:
        return (self.spec.overhead_ms + padded_ms / self.spec.speed) * self.slowdown

    def has_room(self, padded_ms: int) -> bool:
        n = max(1, self.n_replicas)
        count = len(self.outstanding)
        if count >= n * self.spec.max_ongoing:
            return False
        queued_ms = sum(padded for padded, _ in self.outstanding.values())
        room_ms = OUTSTANDING_BATCHES * n * self.spec.batch_audio_ms
        return count < n * OUTSTANDING_BATCHES or queued_ms + padded_ms <= room_ms

    def free_at_ms(self, now_ms: float) -> list[float]:
        """When each replica is done with what it has; a pool at zero starts one replica."""
        if self.n_replicas == 0:
            return [now_ms + self.spec.start_ms + sum(ms for _, ms in self.outstanding.values())]
        queued_ms = sum(ms for _, ms in self.outstanding.values())
        return [now_ms + queued_ms / self.n_replicas] * self.n_replicas


Worker: TypeAlias = tuple[float, PoolState]  # free at, its pool
Planned: TypeAlias = tuple[PoolState, tuple[int, ...]]  # segments for one of the pool's replicas


def plan(
    now_ms: float,
    queue: Sequence[int],
    lengths_ms: dict[int, int],
    workers: Sequence[Worker],
) -> list[Planned]:
    """Each worker's first chunk in a plan where all finish by the earliest possible time.

    `queue` holds segments, longest first inside each window; a worker is (free at, its pool).
    Fastest workers choose first, so they take the longest; the horizon is found by bisection.
    """
    if not queue or not workers:
        return []
    ordered = sorted(workers, key=lambda w: -w[1].spec.speed / w[1].slowdown)
    low_ms = now_ms
    high_ms = max(free for free, _ in workers) + 1.0
    while _fill(high_ms, queue, lengths_ms, ordered) is None:
        high_ms += high_ms - low_ms
    for _ in range(BISECTIONS):
        middle_ms = (low_ms + high_ms) / 2
        if _fill(middle_ms, queue, lengths_ms, ordered) is None:
            low_ms = middle_ms
        else:
            high_ms = middle_ms
    return _fill(high_ms, queue, lengths_ms, ordered) or []


def _fill(
    horizon_ms: float,
    queue: Sequence[int],
    lengths_ms: dict[int, int],
    workers: Sequence[Worker],
) -> list[Planned] | None:
    """First chunks if everything fits before the horizon, else None."""
    firsts: list[Planned] = []
    k = 0
    for free_ms, pool in workers:
        at_ms, first = free_ms, True
        while k < len(queue):
            longest_ms = max(1, lengths_ms[queue[k]])
            fits = int(pool.spec.batch_audio_ms // longest_ms) or 1
            usable_ms = (horizon_ms - at_ms) / pool.slowdown - pool.spec.overhead_ms
            most = min(fits, int(usable_ms * pool.spec.speed // longest_ms), len(queue) - k)
            if most < 1:
                break
            n = 1
            while n < most and SIMILAR * longest_ms <= lengths_ms[queue[k + n]] <= longest_ms:
                n += 1
            if first:
                firsts.append((pool, tuple(queue[k : k + n])))
                first = False
            at_ms += pool.chunk_ms(n * longest_ms)
            k += n
    return firsts if k == len(queue) else None
