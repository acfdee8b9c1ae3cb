"""The simulated fleets, and one recording's makespan on them by plan, bound, even split and pull.

The fleets and the lengths of segments are those of the first trial of the scheduler. A batch of n
segments takes overhead + n x longest / speed; each GPU has its own overhead and speed. Pure.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU as the simulations know it."""

    kind: str
    speed: float  # audio seconds a second
    overhead_s: float  # of a batch of any size
    batch_audio_s: float  # of a full batch


Fleet: TypeAlias = tuple[Gpu, ...]
T4, L4 = Gpu("T4", 250, 0.05, 60), Gpu("L4", 700, 0.04, 120)
A10G, A100 = Gpu("A10G", 900, 0.04, 120), Gpu("A100", 2500, 0.03, 300)
H200 = Gpu("H200", 8000, 0.03, 600)
THROTTLED = Gpu("A100-throttled", 625, 0.03, 300)  # an A100 at a quarter of its speed
FLEETS: dict[str, Fleet] = {
    "8 L4": (L4,) * 8,
    "2 T4, L4, A10G, A100": (T4, T4, L4, A10G, A100),
    "H200, 8 T4": (H200, *[T4] * 8),
    "20 T4, 20 L4, 20 A100": (*[T4] * 20, *[L4] * 20, *[A100] * 20),
    "3 A100 and one at a quarter": (A100, A100, A100, THROTTLED),
}
PRIOR_ERROR = 0.3  # by which a GPU's speed and overhead differ from its type's
NOISE = 0.1  # sigma of the log-normal factor on every service time


def as_they_are(fleet: Fleet, rng: random.Random) -> Fleet:
    """The fleet with each GPU's own speed and overhead: 30 % above or below its type's."""

    def off() -> float:
        return rng.choice((1 - PRIOR_ERROR, 1 + PRIOR_ERROR))

    return tuple(Gpu(g.kind, g.speed * off(), g.overhead_s * off(), g.batch_audio_s) for g in fleet)


def segments_s(total_s: float, rng: random.Random) -> list[float]:
    """Lengths of a recording's segments: log-normal with a median of 6.7 s, cut to 1..30 s."""
    lengths, at_s = [], 0.0
    while at_s < total_s:
        lengths.append(min(30.0, max(1.0, rng.lognormvariate(1.9, 0.7))))
        at_s += lengths[-1]
    return lengths


def in_ms(lengths: Sequence[float]) -> tuple[int, ...]:
    """The lengths in milliseconds."""
    return tuple(round(length_s * 1000) for length_s in lengths)


def cost_s(gpu: Gpu, batch: Sequence[float]) -> float:
    """The time of a batch of segments of these lengths, without noise."""
    return gpu.overhead_s + max(batch) * len(batch) / gpu.speed


def rate(fleet: Fleet) -> float:
    """Audio seconds a second of all GPUs together, in full batches without padding."""
    return sum(1 / (1 / g.speed + g.overhead_s / g.batch_audio_s) for g in fleet)


def bound_s(lengths: Sequence[float], fleet: Fleet) -> float:
    """A makespan that no schedule beats where there is no noise.

    It is the larger of two times: all audio in full batches without padding on all GPUs, and the
    longest segment alone on the GPU that does it first.
    """
    return max(sum(lengths) / rate(fleet), min(cost_s(g, [max(lengths)]) for g in fleet))


def full_batch(lengths: Sequence[float], start: int, gpu: Gpu) -> int:
    """How many segments from `start` on fit a batch; the longest come first in `lengths`."""
    return min(len(lengths) - start, max(1, int(gpu.batch_audio_s / lengths[start] + 1e-9)))


def even_s(lengths: Sequence[float], fleet: Fleet, rng: random.Random) -> float:
    """The makespan where every GPU gets the same number of segments, in full batches."""
    ends = []
    for i, gpu in enumerate(fleet):
        part, at_s, k = sorted(lengths[i :: len(fleet)], reverse=True), 0.0, 0
        while k < len(part):
            n = full_batch(part, k, gpu)
            at_s += cost_s(gpu, part[k : k + n]) * rng.lognormvariate(0, NOISE)
            k += n
        ends.append(at_s)
    return max(ends)


def pull_s(lengths: Sequence[float], fleet: Fleet, rng: random.Random) -> float:
    """The makespan where a GPU that is free takes a full batch of the longest segments left."""
    queue, k, end_s = sorted(lengths, reverse=True), 0, 0.0
    free = [(0.0, i) for i in range(len(fleet))]
    while k < len(queue):
        at_s, i = heapq.heappop(free)
        n = full_batch(queue, k, fleet[i])
        at_s += cost_s(fleet[i], queue[k : k + n]) * rng.lognormvariate(0, NOISE)
        k, end_s = k + n, max(end_s, at_s)
        heapq.heappush(free, (at_s, i))
    return end_s


def together(lengths: Sequence[float], fleet: Fleet) -> tuple[float, list[list[float]]]:
    """The ideal plan: its makespan, and the times of each GPU's chunks.

    The plan knows every GPU's speed and overhead, and has all GPUs finish by the same time.
    """
    queue = sorted(lengths, reverse=True)
    order = sorted(fleet, key=lambda g: -g.speed)

    def fill(end_s: float) -> list[list[float]] | None:
        k, times = 0, []
        for gpu in order:
            at_s, own = 0.0, []
            while k < len(queue):
                time_s = end_s - at_s - gpu.overhead_s
                n = min(int(time_s * gpu.speed / queue[k] + 1e-9), full_batch(queue, k, gpu))
                if n < 1:
                    break
                own.append(gpu.overhead_s + queue[k] * n / gpu.speed)
                at_s, k = at_s + own[-1], k + n
            times.append(own)
        return times if k == len(queue) else None

    low_s, high_s = 0.0, 1000.0
    for _ in range(40):
        middle_s = (low_s + high_s) / 2
        low_s, high_s = (low_s, middle_s) if fill(middle_s) else (middle_s, high_s)
    return high_s, fill(high_s) or []


def under_noise_s(chunks: Sequence[Sequence[float]], rng: random.Random) -> float:
    """The makespan of these chunks under noise, each staying on the GPU of the plan."""
    return max(sum(time_s * rng.lognormvariate(0, NOISE) for time_s in own) for own in chunks)
