"""Short requests at random times, and the bar for their latency beside a long file."""

from __future__ import annotations

import random
from dataclasses import dataclass
from statistics import median

from benchmarks.dispatch.fleets import Fleet, Gpu, cost_s, in_ms, segments_s

LONGEST_SEGMENT_S = 30.0
LOAD = 0.2  # of the fleet's speed
SHORT_S = (3.0, 30.0)


@dataclass(frozen=True, slots=True)
class P95:
    """95th percentiles alone and beside the file, and a full chunk of the fastest pool."""

    alone_ms: float
    beside_ms: float
    chunk_ms: float

    @property
    def over_bar(self) -> float:
        """The figure beside the file, divided by its bar; it is to be at most 1.

        The bar is twice the figure alone or that figure plus one chunk, whichever is more.
        """
        return self.beside_ms / max(2 * self.alone_ms, self.alone_ms + self.chunk_ms)


def arrivals(speed: float, *, time_s: float, seed: int) -> list[tuple[float, tuple[int, ...]]]:
    """The arrival time of each short request in seconds, and its segments' lengths in ms.

    Together they ask for LOAD of the fleet's speed (audio seconds a second).
    """
    rng = random.Random(seed)
    found, at_s = [], 0.0
    while (at_s := at_s + rng.expovariate(LOAD * speed / (sum(SHORT_S) / 2))) < time_s:
        found.append((at_s, in_ms(exactly(rng.uniform(*SHORT_S), rng))))
    return found


def exactly(total_s: float, rng: random.Random) -> list[float]:
    """Lengths of segments whose sum is `total_s`: the last one is cut."""
    lengths = segments_s(total_s, rng)
    lengths[-1] -= sum(lengths) - total_s
    return lengths


def fastest_chunk_ms(types: Fleet, actual: Fleet) -> float:
    """The time of a full chunk of the longest segments in the pool of the fastest type.

    The GPUs of that pool differ in `actual`: this is their median.
    """
    top = max(gpu.speed for gpu in types)
    pool = [gpu for gpu, kind in zip(actual, types, strict=True) if kind.speed == top]
    return 1000 * median(cost_s(gpu, full_chunk(gpu)) for gpu in pool)


def full_chunk(gpu: Gpu) -> list[float]:
    """The lengths of a batch of the longest segments, as many as the GPU takes."""
    return [LONGEST_SEGMENT_S] * int(gpu.batch_audio_s / LONGEST_SEGMENT_S)
