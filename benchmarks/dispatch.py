"""One recording over unlike GPUs: makespan over a plan that knows every speed, simulated.

Five fleets, 20 recordings of each length. A pool is the GPUs of one type, with one prior: the
type's speed and overhead. Every GPU's own are 30 % above or below these, each by chance, so the
replicas of a pool differ, by 1.86 at the most. Every service time has 10 % of log-normal noise. The
plan that it is compared with (`together`) knows each GPU's true figures and meets no noise.

"Cold" is the first recording, "warm" (`over_plan_...`) comes after 30 minutes of traffic at 20 % of
what the fleet can do: after its last 1800 recordings, for what was learned before is forgotten.
The makespan is the median over the recordings, the figure that of the worst fleet.

`pow2_...`: the replica inside a pool is Serve's choice, the less busy of two at random; else the
scheduler names it. How much of a figure is noise, and how much is learning:
`floor_static_...`: the clairvoyant plan's own chunks under the same noise, nothing moved.
`floor_known_...`: this very scheduler with nothing to learn, every GPU a pool whose prior is right,
under the noise. No lower bound: another scheduler may do better.
`bound_...` is one, of what any scheduler can expect that knows every speed, and `bound_cold_...` of
any that knows the priors (`benchmarks/dispatch_bounds.py`), over the same plan; that on fleets of
many GPUs only, for of few it matters more how lucky they are. `fluid_...`: planned for pieces of
any length, every speed known.
"""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from statistics import median
from typing import Annotated

import typer

from benchmarks.dispatch_bounds import bound_known_s, bound_unknown_s, fluid_s
from benchmarks.dispatch_fleets import (
    A100,
    FLEETS,
    NOISE,
    Fleet,
    Gpu,
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
from benchmarks.results import Figures
from cluster.scenario import Arrival, Choice, Trouble, Truth
from cluster.simulate import latencies_ms, percentile
from cluster.simulation import Simulation
from deployments.core.planning import PoolSpec
from deployments.core.scheduling import Scheduler

LENGTHS_S = {"5min": 300, "1h": 3600, "4h": 14400}
WARM_S = 1800.0
WARM_LOAD = 0.2  # of what the fleet can do
WARM_MOST = 1800  # the last of them: a replica forgets what is older
WARM_LENGTHS_S = (10, 60, 120, 600)
REST_MS = 60_000.0
WORST = (
    "over_plan",
    "cold",
    "bound",
    "bound_cold",
    "fluid",
    "pow2_over_plan",
    "pow2_cold",
    "floor_static",
    "floor_known",
)
MANY = 20  # GPUs
BOUND_WITHIN = 3.0  # plans
FLUID_SHARE = 0.8  # 0.7 and 0.9 are worse on the largest fleet


def spec(name: str, gpu: Gpu) -> PoolSpec:
    return PoolSpec(
        name=name,
        batch_audio_ms=round(gpu.batch_audio_s * 1000),
        speed=gpu.speed,
        overhead_ms=gpu.overhead_s * 1000,
        max_ongoing=8,
        start_ms=30_000.0,
    )


def pools(types: Fleet, actual: Fleet) -> list[Truth]:
    """A pool for each type of GPU, and what each of its replicas really does."""
    members: dict[Gpu, list[tuple[float, float]]] = defaultdict(list)
    for kind, gpu in zip(types, actual, strict=True):
        members[kind].append((gpu.speed, gpu.overhead_s * 1000))
    return [
        Truth(spec(t.kind, t), len(own), t.speed, t.overhead_s * 1000, each=tuple(own))
        for t, own in members.items()
    ]


def known_pools(actual: Fleet) -> list[Truth]:
    """A pool for each GPU, its prior right."""
    return [
        Truth(spec(f"{gpu.kind}-{i}", gpu), 1, gpu.speed, gpu.overhead_s * 1000)
        for i, gpu in enumerate(actual)
    ]


def traffic(fleet: Fleet, rng: random.Random) -> list[Arrival]:
    """The last recordings, of 10 s to 10 min each, of half an hour."""
    mean_s = sum(WARM_LENGTHS_S) / len(WARM_LENGTHS_S)
    every_s = mean_s / (WARM_LOAD * rate(fleet))
    arrivals: list[Arrival] = []
    at_s = max(0.0, WARM_S - WARM_MOST * every_s)
    while at_s < WARM_S:
        lengths = in_ms(segments_s(rng.choice(WARM_LENGTHS_S), rng))
        arrivals.append(Arrival(at_s * 1000, f"before-{len(arrivals)}", lengths))
        at_s += rng.expovariate(1 / every_s)
    return arrivals


class Measured:
    """One fleet with one seed: its GPUs as they are, and schedulers that are warm."""

    def __init__(self, types: Fleet, seed: int) -> None:
        self.types, self.seed = types, seed
        self.actual = as_they_are(types, random.Random(1000 + seed))
        self.truths = pools(types, self.actual)
        self.scheduling_s, self.n_chunks = 0.0, 0
        self._arrivals = traffic(self.actual, random.Random(3000 + seed))
        self._now_ms = WARM_S * 1000 + REST_MS

    def warm(self, choice: Choice) -> Scheduler:
        """The scheduler after half an hour."""
        trouble = Trouble(noise=NOISE)
        simulation = Simulation(
            self.truths, self._arrivals, seed=self.seed, trouble=trouble, choice=choice
        )
        outcome = simulation.run()
        self._now_ms = max(self._now_ms, simulation.now_ms + REST_MS)
        self.scheduling_s += outcome.scheduling_s
        self.n_chunks += outcome.n_chunks
        return simulation.scheduler

    def makespan_s(
        self,
        truths: Sequence[Truth],
        lengths: Sequence[float],
        choice: Choice = "named",
        scheduler: Scheduler | None = None,
    ) -> float:
        """Of a recording that comes to an idle fleet."""
        start_ms = self._now_ms
        self._now_ms += 2 * REST_MS
        simulation = Simulation(
            truths,
            [Arrival(start_ms, "recording", in_ms(lengths), interactive=False)],
            seed=self.seed,
            trouble=Trouble(noise=NOISE),
            choice=choice,
            scheduler=scheduler,
            start_ms=start_ms,
        )
        return simulation.run().done[0].latency_ms / 1000

    def figures(self) -> dict[str, dict[str, float]]:
        """A recording of every length, every way."""
        named, pow2 = self.warm("named"), self.warm("pow2")
        known_truths = known_pools(self.actual)
        exact = Simulation(known_truths, self._arrivals[:200], seed=self.seed)
        exact.run()
        rng = random.Random(2000 + self.seed)
        found: dict[str, dict[str, float]] = {}
        for length, total_s in LENGTHS_S.items():
            lengths = segments_s(total_s, random.Random(self.seed))
            plan_s, chunks = together(lengths, self.actual)
            warm_s = self.makespan_s(self.truths, lengths, scheduler=named)
            pow2_s = self.makespan_s(self.truths, lengths, "pow2", pow2)
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
                "pow2_over_plan": pow2_s / plan_s,
                "pow2_cold": self.makespan_s(self.truths, lengths, "pow2") / plan_s,
                "floor_static": under_noise_s(chunks, rng) / plan_s,
                "floor_known": known_s / plan_s,
                "over_bound": warm_s / bound_s(lengths, self.actual),
                "even_over_ours": even_s(lengths, self.actual, rng) / warm_s,
                "pull_over_ours": pull_s(lengths, self.actual, rng) / warm_s,
            }
        return found


@dataclass(frozen=True, slots=True)
class Found:
    """What one fleet with one seed gave."""

    figures: dict[str, dict[str, float]]  # by length
    scheduling_s: float
    n_chunks: int


def measured(name: str, seed: int) -> Found:
    """A fleet and a seed; on a process of its own."""
    one = Measured(FLEETS[name], seed)
    return Found(one.figures(), one.scheduling_s, one.n_chunks)


def short_requests(types: Fleet, *, long_hours: float, seed: int) -> list[float]:
    """Latencies of short requests at a load of 20 %, with or without a long file in the queue."""
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
    recordings: Annotated[int, typer.Option(help="of each length and fleet", min=1)] = 20,
    first_seed: Annotated[int, typer.Option(help="others than those it was made with")] = 0,
    real: Annotated[bool, typer.Option(help="an hour on real Ray too: a minute more")] = False,
) -> Figures:
    """The figures of every length on the worst fleet, and the scheduler's own cost."""
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
        from benchmarks.dispatch_on_ray import one_hour  # Ray: only for this

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
