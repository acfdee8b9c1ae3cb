"""`short_requests`: the 95th percentile of short requests, with and without a file of 10 hours.

Requests of 3 to 30 s arrive at random times and ask for a fifth of the fleet's speed. The bar is
twice the figure without the file, or that figure plus one full chunk of the fastest pool, whichever
is more. `over_bar` is the figure beside the file, divided by the bar: it is to be at most 1.

The five fleets are simulated with a file of ten hours. `--real` measures on real Ray too
(`short_on_ray.py`).
"""

from __future__ import annotations

import random
from statistics import median
from typing import Annotated

import typer

from benchmarks.dispatch.fleets import FLEETS, NOISE, Fleet, as_they_are, in_ms, rate, segments_s
from benchmarks.dispatch.short_traffic import LOAD, P95, arrivals, fastest_chunk_ms
from benchmarks.dispatch.simulated_pools import pools
from benchmarks.results import Figures
from cluster.simulation.command import latencies_ms, percentile
from cluster.simulation.scenario import Arrival, Trouble
from cluster.simulation.simulator import Simulation

LONG_HOURS = 10.0
SEEDS = 5


def run(
    recordings: Annotated[int, typer.Option(help="Seeds of each fleet.", min=1)] = SEEDS,
    first_seed: Annotated[int, typer.Option(help="The first of them.")] = 0,
    real: Annotated[
        bool, typer.Option(help="Measure on real Ray too; takes three minutes more.")
    ] = False,
) -> Figures:
    """95th percentiles on each fleet: the medians over the seeds, and the worst ratio."""
    figures: Figures = {}
    for name, fleet in FLEETS.items():
        found = [simulated(fleet, first_seed + i) for i in range(recordings)]
        figures[f"short_p95_ms, {name}"] = round(median(p.alone_ms for p in found), 1)
        figures[f"short_p95_beside_10h_ms, {name}"] = round(median(p.beside_ms for p in found), 1)
        figures[f"short_p95_over_bar, {name}"] = round(median(p.over_bar for p in found), 2)
        figures[f"short_p95_over_bar_worst, {name}"] = round(max(p.over_bar for p in found), 2)
    if real:
        from benchmarks.dispatch.short_on_ray import on_ray  # imports Ray

        figures |= on_ray()
    return figures


def simulated(types: Fleet, seed: int) -> P95:
    """The percentiles on one fleet; each of its GPUs is 30 % off its type's figures."""
    actual = as_they_are(types, random.Random(1000 + seed))
    file = in_ms(segments_s(LONG_HOURS * 3600, random.Random(seed)))
    # The file gets the speed that the short requests leave.
    time_s = LONG_HOURS * 3600 / rate(actual) / (1 - LOAD)
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
