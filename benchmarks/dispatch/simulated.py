"""`dispatch`: the makespan of one recording on unlike GPUs, relative to an ideal plan's; simulated.

There are five fleets, and 20 recordings of each length. The GPUs of one type form a pool. The
scheduler starts with the type's speed and overhead as its prior. Each GPU's own speed and overhead
are 30 % above or below these by chance, so two replicas of a pool differ by a factor of up to 1.86.
Every service time has 10 % of log-normal noise.

Most figures are a makespan divided by that of the ideal plan (`together`). The plan knows each
GPU's true figures and meets no noise. A figure is the median over the recordings, on the fleet
where that median is worst.

- `over_plan_...`: a warm scheduler. It has seen 30 minutes of traffic at 20 % of the fleet's
  speed. Only the last 1800 recordings of it are simulated, because the scheduler forgets older
  ones.
- `cold_...`: a scheduler that has seen no traffic.

These figures tell how much of the loss is noise, and how much is learning:

- `floor_static_...`: the ideal plan's own chunks under the same noise, none of them moved.
- `floor_known_...`: the same scheduler with nothing to learn: every GPU is a pool whose prior is
  right. Another scheduler may do better, so this is no lower bound.
- `bound_...`: a lower bound for every scheduler that knows all speeds (`bounds.py`).
- `bound_cold_...`: a lower bound for every scheduler that knows only the priors. It is given for
  fleets of many GPUs: with few, luck matters more.
- `fluid_...`: a planner that knows every speed and may cut audio into pieces of any length.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from statistics import median
from typing import Annotated

import typer

from benchmarks.dispatch.bounds import bound_known_s, bound_unknown_s, fluid_s
from benchmarks.dispatch.fleets import (
    A100,
    FLEETS,
    NOISE,
    Fleet,
    as_they_are,
    bound_s,
    cost_s,
    even_s,
    in_ms,
    pull_s,
    rate,
    segments_s,
    together,
    under_noise_s,
)
from benchmarks.dispatch.simulated_pools import WARM_S, known_pools, pools, traffic
from benchmarks.results import Figures
from cluster.simulation.command import latencies_ms, percentile
from cluster.simulation.scenario import Arrival, Trouble, Truth
from cluster.simulation.simulator import Simulation
from deployments.core.scheduler.scheduler import Scheduler

LENGTHS_S = {"5min": 300, "1h": 3600, "4h": 14400}
REST_MS = 60_000.0
# Each of these figures is given for the fleet where it is worst.
WORST = (
    "over_plan",
    "cold",
    "bound",
    "bound_cold",
    "fluid",
    "floor_static",
    "floor_known",
)
MANY = 20  # GPUs: `bound_cold_...` is given for fleets of at least this many
BOUND_WITHIN = 3.0  # times the plan's makespan: the bounds are searched up to there
FLUID_SHARE = 0.8  # measured: 0.7 and 0.9 are worse on the largest fleet


class Measured:
    """One fleet with one seed: the true speeds of its GPUs, and warm schedulers."""

    def __init__(self, types: Fleet, seed: int) -> None:
        self.types, self.seed = types, seed
        self.actual = as_they_are(types, random.Random(1000 + seed))
        self.truths = pools(types, self.actual)
        self.scheduling_s, self.n_chunks = 0.0, 0
        self._arrivals = traffic(self.actual, random.Random(3000 + seed))
        self._now_ms = WARM_S * 1000 + REST_MS

    def warm(self) -> Scheduler:
        """A scheduler after half an hour of traffic."""
        trouble = Trouble(noise=NOISE)
        simulation = Simulation(self.truths, self._arrivals, seed=self.seed, trouble=trouble)
        outcome = simulation.run()
        self._now_ms = max(self._now_ms, simulation.now_ms + REST_MS)
        self.scheduling_s += outcome.scheduling_s
        self.n_chunks += outcome.n_chunks
        return simulation.scheduler

    def makespan_s(
        self,
        truths: Sequence[Truth],
        lengths: Sequence[float],
        scheduler: Scheduler | None = None,
    ) -> float:
        """The makespan of a recording that arrives at an idle fleet."""
        start_ms = self._now_ms
        self._now_ms += 2 * REST_MS
        simulation = Simulation(
            truths,
            [Arrival(start_ms, "recording", in_ms(lengths), interactive=False)],
            seed=self.seed,
            trouble=Trouble(noise=NOISE),
            scheduler=scheduler,
            start_ms=start_ms,
        )
        return simulation.run().done[0].latency_ms / 1000

    def figures(self) -> dict[str, dict[str, float]]:
        """All figures for a recording of each length."""
        warm = self.warm()
        known_truths = known_pools(self.actual)
        exact = Simulation(known_truths, self._arrivals[:200], seed=self.seed)
        exact.run()
        rng = random.Random(2000 + self.seed)
        found: dict[str, dict[str, float]] = {}
        for length, total_s in LENGTHS_S.items():
            lengths = segments_s(total_s, random.Random(self.seed))
            plan_s, chunks = together(lengths, self.actual)
            warm_s = self.makespan_s(self.truths, lengths, scheduler=warm)
            known_s = self.makespan_s(known_truths, lengths, scheduler=exact.scheduler)
            within_s = BOUND_WITHIN * plan_s
            known_bound_s = bound_known_s(sum(lengths), self.actual, within_s)
            cold_bound_s = float("nan")
            if len(self.types) >= MANY:
                cold_bound_s = bound_unknown_s(sum(lengths), self.types, within_s)
            found[length] = {
                "over_plan": warm_s / plan_s,
                "bound": known_bound_s / plan_s,
                "bound_cold": cold_bound_s / plan_s,
                "fluid": fluid_s(sum(lengths), self.actual, FLUID_SHARE, rng) / plan_s,
                "cold": self.makespan_s(self.truths, lengths) / plan_s,
                "floor_static": under_noise_s(chunks, rng) / plan_s,
                "floor_known": known_s / plan_s,
                "over_bound": warm_s / bound_s(lengths, self.actual),
                "even_over_ours": even_s(lengths, self.actual, rng) / warm_s,
                "pull_over_ours": pull_s(lengths, self.actual, rng) / warm_s,
            }
        return found


@dataclass(frozen=True, slots=True)
class Found:
    """The figures of one fleet with one seed, and the time that scheduling took."""

    figures: dict[str, dict[str, float]]  # by length
    scheduling_s: float
    n_chunks: int


def measured(name: str, seed: int) -> Found:
    """Measures one fleet with one seed; called in a worker process."""
    one = Measured(FLEETS[name], seed)
    return Found(one.figures(), one.scheduling_s, one.n_chunks)


def short_requests(types: Fleet, *, long_hours: float, seed: int) -> list[float]:
    """Latencies of short requests at a load of 20 %, beside a long file; 0 hours: without one."""
    rng = random.Random(seed)
    actual = as_they_are(types, random.Random(1000 + seed))
    end_s = (long_hours or 10) * 3600 / rate(actual) * 1.25
    arrivals = [Arrival(0.0, "long", in_ms(segments_s(long_hours * 3600, rng)))] * bool(long_hours)
    rng, at_s = random.Random(seed + 1), 0.0
    while at_s < end_s:
        lengths = in_ms(segments_s(rng.uniform(3, 30), rng))
        arrivals.append(Arrival(at_s * 1000, f"short-{len(arrivals)}", lengths))
        at_s += rng.expovariate(0.2 * rate(actual) / 16.5)
    trouble = Trouble(noise=NOISE)
    simulation = Simulation(pools(types, actual), arrivals, seed=seed, trouble=trouble)
    return latencies_ms(simulation.run(), "short")


def run(
    recordings: Annotated[
        int, typer.Option(help="Recordings of each length on each fleet.", min=1)
    ] = 20,
    first_seed: Annotated[
        int, typer.Option(help="First seed. The scheduler was tuned on those from 0 on.")
    ] = 0,
    real: Annotated[
        bool, typer.Option(help="Measure an hour on real Ray too; takes a minute more.")
    ] = False,
) -> Figures:
    """One recording on unlike GPUs, relative to an ideal plan, and the scheduler's own cost."""
    seeds = range(first_seed, first_seed + recordings)
    results: dict[str, list[Found]] = {}
    with ProcessPoolExecutor() as processes:
        for name in FLEETS:
            results[name] = list(processes.map(measured, [name] * recordings, seeds))

    def of(name: str, length: str, key: str) -> float:
        return median(result.figures[length][key] for result in results[name])

    def over_fleets(key: str, length: str, pick: Callable[[Sequence[float]], float] = max) -> float:
        every = [of(name, length, key) for name in FLEETS]
        return round(pick([one for one in every if not math.isnan(one)]), 3)

    figures: Figures = {}
    for key in WORST:
        figures |= {f"{key}_{length}": over_fleets(key, length) for length in LENGTHS_S}
    figures["over_bound_1h"] = over_fleets("over_bound", "1h")
    figures["even_over_ours_1h"] = over_fleets("even_over_ours", "1h", median)
    figures["pull_over_ours_1h"] = over_fleets("pull_over_ours", "1h", median)
    for key in WORST:
        for length in LENGTHS_S:
            for name in FLEETS:
                ratio = of(name, length, key)
                if not math.isnan(ratio):
                    figures[f"{key}_{length}, {name}"] = round(ratio, 3)
    every = [one for some in results.values() for one in some]
    scheduling_us = sum(one.scheduling_s for one in every) * 1e6
    figures["scheduling_us_per_chunk"] = round(scheduling_us / sum(m.n_chunks for m in every), 1)
    figures |= _interactive(first_seed)
    if real:
        from benchmarks.dispatch.on_ray import one_hour  # imports Ray

        figures |= one_hour()
    return figures


def _interactive(seed: int) -> Figures:
    fleet = FLEETS["2 T4, L4, A10G, A100"]
    alone = percentile(short_requests(fleet, long_hours=0, seed=seed), 95)
    beside = percentile(short_requests(fleet, long_hours=10, seed=seed), 95)
    return {
        "short_p95_ms": round(alone, 1),
        "short_p95_beside_10h_ms": round(beside, 1),
        "short_p95_over_alone": round(beside / alone, 2),
        "chunk_of_fastest_ms": cost_s(A100, [30.0] * 10) * 1000,
    }
