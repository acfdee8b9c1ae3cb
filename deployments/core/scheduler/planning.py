"""Plans which replica gets which segments so that all replicas finish together.

The plan bisects over the horizon: the earliest time by which every waiting segment of a request
can be done if each replica works until then. From this follows that all replicas finish together,
that a short request uses the fastest replicas only, and that the last chunks are small
(DESIGN, Placing).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from deployments.core.batching import SLACK_PART, worth_padding_to_ms

TOLERANCE = 0.005  # the bisection ends at this part of the time from now to the horizon
MAX_PROBES = 24  # or after so many steps


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
class Worker:
    """A replica as the plan sees it."""

    pool: str
    free_ms: float  # when it has computed the orders that it has
    overhead_ms: float
    slope: float  # ms of work per ms of padded audio
    budget_ms: int
    risk: float = 0.0  # how much longer than expected a chunk may take, as a part of its time
    slot_number: int = 0  # 0: a replica that is still to start
    doubt: float = 0.0  # the standard deviation of a chunk's expected time, as a part of it


@dataclass(frozen=True, slots=True)
class PlannedChunk:
    """The segments [first, stop) of the queue, for one worker."""

    worker: int
    first: int
    stop: int
    start_ms: float
    end_ms: float


Cuts: TypeAlias = dict[tuple[str, int, int], int]  # by pool, slot number and first segment


def most_efficient(
    lengths_ms: Sequence[int],
    start: int,
    *,
    overhead_ms: float,
    slope: float,
    budget_ms: int,
) -> int:
    """How many segments from `start` on to put into one chunk, which is computed as one batch.

    `lengths_ms` are sorted, longest first. The chunk ends where its padding would cost nearly as
    much as one more batch. So a large overhead makes wide chunks, and no overhead makes chunks of
    segments of one length.
    """
    longest_ms = max(1, lengths_ms[start])
    most = min(budget_ms // longest_ms or 1, len(lengths_ms) - start)
    slack_ms = SLACK_PART * overhead_ms / slope
    audio_ms, n = longest_ms, 1
    while n < most:
        audio_ms += lengths_ms[start + n]
        if (n + 1) * longest_ms > worth_padding_to_ms(audio_ms, slack_ms):
            break
        n += 1
    return n


def plan(
    now_ms: float, lengths_ms: Sequence[int], workers: Sequence[Worker]
) -> tuple[float, list[PlannedChunk]]:
    """The horizon, and the chunks of each worker that meet it.

    `lengths_ms` are sorted, longest first, and workers fastest first. So the fastest workers take
    the longest segments.
    """
    if not lengths_ms or not workers:
        return now_ms, []
    cuts: Cuts = {}
    low_ms = now_ms
    high_ms = _greedy_end(lengths_ms, workers)
    best = _fill(high_ms, lengths_ms, workers, cuts)
    while best is None:  # the guess was too early: filling in this order may leave gaps
        low_ms, high_ms = high_ms, high_ms + 2 * (high_ms - now_ms) + 1.0
        best = _fill(high_ms, lengths_ms, workers, cuts)
    for _ in range(MAX_PROBES):
        if high_ms - low_ms <= TOLERANCE * (high_ms - now_ms):
            break
        middle_ms = (low_ms + high_ms) / 2
        found = _fill(middle_ms, lengths_ms, workers, cuts)
        if found is None:
            low_ms = middle_ms
        else:
            best = found
            high_ms = middle_ms
    return high_ms, best


def _greedy_end(lengths_ms: Sequence[int], workers: Sequence[Worker]) -> float:
    """A guess of the horizon: all audio at the rate of all workers, or the longest segment."""
    audio_ms = float(sum(lengths_ms))
    rate = sum(1 / (w.slope + w.overhead_ms / w.budget_ms) for w in workers)
    longest = min(w.free_ms + w.overhead_ms + w.slope * lengths_ms[0] for w in workers)
    first_ms = min(w.free_ms for w in workers)
    riskiest = max(w.risk for w in workers)
    return first_ms + (1 + riskiest) * (max(longest - first_ms, 1.5 * audio_ms / rate))


def _fill(
    horizon_ms: float, lengths_ms: Sequence[int], workers: Sequence[Worker], cuts: Cuts
) -> list[PlannedChunk] | None:
    """Chunks with which all is done before the horizon; None if there are none."""
    chunks: list[PlannedChunk] = []
    k, n_segments = 0, len(lengths_ms)
    for index, worker in enumerate(workers):
        at_ms, overhead_ms, slope = worker.free_ms, worker.overhead_ms, worker.slope
        trust = 1 / (1 + worker.risk)
        while k < n_segments:
            longest_ms = max(1, lengths_ms[k])
            n = int(((horizon_ms - at_ms) * trust - overhead_ms) / (slope * longest_ms) + 1e-9)
            if n < 1:
                break
            if n > 1:
                cut = cuts.get((worker.pool, worker.slot_number, k))
                if cut is None:
                    cut = cuts[worker.pool, worker.slot_number, k] = most_efficient(
                        lengths_ms,
                        k,
                        overhead_ms=overhead_ms,
                        slope=slope,
                        budget_ms=worker.budget_ms,
                    )
                n = min(n, cut)
            end_ms = at_ms + overhead_ms + n * longest_ms * slope
            chunks.append(PlannedChunk(index, k, k + n, at_ms, end_ms))
            at_ms = end_ms
            k += n
        if k == n_segments:
            return chunks
    return None
