"""Short requests with and without a file of many hours in the queue: the 95th percentile.

Requests of 3 to 30 s come at random times, a fifth of what the fleet can do. The bar is twice the
figure without the file, or that plus one full chunk of the fastest pool, whichever is more; what is
shown as `over_bar` is to be at most 1. Simulated on the five fleets with a file of ten hours, and
on real Ray with five fake nodes (benchmarks/sleeping_cluster.py) at a twelfth of their speed, where
the file is as long as keeps them busy all through the measurement.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from statistics import median
from typing import Annotated

import typer

from benchmarks.dispatch import pools
from benchmarks.dispatch_fleets import (
    FLEETS,
    NOISE,
    Fleet,
    Gpu,
    as_they_are,
    cost_s,
    in_ms,
    rate,
    segments_s,
)
from benchmarks.results import Figures
from cluster.scenario import Arrival, Trouble
from cluster.simulate import latencies_ms, percentile
from cluster.simulation import Simulation

LONG_HOURS = 10.0
LONGEST_SEGMENT_S = 30.0
SEEDS = 5
LOAD = 0.2  # of what the fleet can do
SHORT_S = (3.0, 30.0)


@dataclass(frozen=True, slots=True)
class P95:
    """Milliseconds: alone, beside the file, and a full chunk of the fastest pool."""

    alone_ms: float
    beside_ms: float
    chunk_ms: float

    @property
    def over_bar(self) -> float:
        return self.beside_ms / max(2 * self.alone_ms, self.alone_ms + self.chunk_ms)


def run(
    recordings: Annotated[int, typer.Option(help="seeds of each fleet", min=1)] = SEEDS,
    first_seed: Annotated[int, typer.Option(help="of the first")] = 0,
    real: Annotated[bool, typer.Option(help="on real Ray too: three minutes more")] = False,
) -> Figures:
    """Medians over the seeds."""
    figures: Figures = {}
    for name, fleet in FLEETS.items():
        found = [simulated(fleet, first_seed + i) for i in range(recordings)]
        figures[f"short_p95_ms, {name}"] = round(median(p.alone_ms for p in found), 1)
        figures[f"short_p95_beside_10h_ms, {name}"] = round(median(p.beside_ms for p in found), 1)
        figures[f"short_p95_over_bar, {name}"] = round(median(p.over_bar for p in found), 2)
        figures[f"short_p95_over_bar_worst, {name}"] = round(max(p.over_bar for p in found), 2)
    if real:
        from benchmarks.short_on_ray import on_ray  # Ray: only for this

        figures |= on_ray()
    return figures


def simulated(types: Fleet, seed: int) -> P95:
    """One fleet, each of its GPUs 30 % off its type's figures."""
    actual = as_they_are(types, random.Random(1000 + seed))
    file = in_ms(segments_s(LONG_HOURS * 3600, random.Random(seed)))
    time_s = LONG_HOURS * 3600 / rate(actual) / (1 - LOAD)  # the file takes what is left
    came = arrivals(rate(actual), time_s=time_s, seed=seed + 1)
    shorts = [Arrival(at_s * 1000, f"short-{i}", ms) for i, (at_s, ms) in enumerate(came)]
    alone, beside = (
        percentile(
            latencies_ms(
                Simulation(
                    pools(types, actual), played, seed=seed, trouble=Trouble(noise=NOISE)
                ).run(),
                "short",
            ),
            95,
        )
        for played in (shorts, [Arrival(0.0, "long", file), *shorts])
    )
    return P95(alone, beside, fastest_chunk_ms(types, actual))


def fastest_chunk_ms(types: Fleet, actual: Fleet) -> float:
    """A full chunk of the longest segments in the pool of the fastest type, as its GPUs are."""
    top = max(gpu.speed for gpu in types)
    pool = [gpu for gpu, kind in zip(actual, types, strict=True) if kind.speed == top]
    return 1000 * median(cost_s(gpu, full_chunk(gpu)) for gpu in pool)


def full_chunk(gpu: Gpu) -> list[float]:
    return [LONGEST_SEGMENT_S] * int(gpu.batch_audio_s / LONGEST_SEGMENT_S)


def arrivals(speed: float, *, time_s: float, seed: int) -> list[tuple[float, tuple[int, ...]]]:
    """When each short request comes, in seconds, and its segments' lengths."""
    rng = random.Random(seed)
    found, at_s = [], 0.0
    while (at_s := at_s + rng.expovariate(LOAD * speed / (sum(SHORT_S) / 2))) < time_s:
        found.append((at_s, in_ms(exactly(rng.uniform(*SHORT_S), rng))))
    return found


def exactly(total_s: float, rng: random.Random) -> list[float]:
    """Segments that are so long together: the last is cut."""
    lengths = segments_s(total_s, rng)
    lengths[-1] -= sum(lengths) - total_s
    return lengths
