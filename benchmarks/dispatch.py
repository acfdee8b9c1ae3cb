"""One recording over unlike GPUs: makespan over a plan that knows every speed, simulated.

Five fleets, 20 recordings of each length. The scheduler's priors are off by 30 % (speed and
overhead of each GPU type, up or down) and every service time has 10 % of log-normal noise; the
plan it is compared with (`together`) knows the true figures and meets no noise. "Warm" follows 30
to 60 other recordings, "cold" is the first. The makespan is the median over the
recordings, the figure that of the worst fleet. `..._serve_...`: the replica inside a pool is
chosen as Serve does, the less busy of two at random; else it is the least busy one. `floor_...`:
the clairvoyant plan's own chunks under the same noise, which no scheduler that sends one chunk to
each GPU can beat.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Annotated, TypeAlias

import typer

from benchmarks.results import Figures
from cluster.scenario import Arrival, Outcome, Routing, Trouble, Truth
from cluster.simulate import latencies_ms, percentile
from cluster.simulation import Simulation
from deployments.core.planning import PoolSpec
from deployments.core.scheduling import Scheduler


@dataclass(frozen=True, slots=True)
class Gpu:
    """Audio seconds a second, seconds a batch of any size, audio seconds of a full batch."""

    speed: float
    overhead_s: float
    batch_audio_s: float


T4, L4, A10G = Gpu(250, 0.05, 60), Gpu(700, 0.04, 120), Gpu(900, 0.04, 120)
A100, H200 = Gpu(2500, 0.03, 300), Gpu(8000, 0.03, 600)
THROTTLED = Gpu(625, 0.03, 300)  # an A100 at a quarter of its speed
Fleet: TypeAlias = tuple[Gpu, ...]
FLEETS: dict[str, Fleet] = {
    "8 L4": (L4,) * 8,
    "2 T4, L4, A10G, A100": (T4, T4, L4, A10G, A100),
    "H200, 8 T4": (H200, *[T4] * 8),
    "20 T4, 20 L4, 20 A100": (*[T4] * 20, *[L4] * 20, *[A100] * 20),
    "3 A100 and one at a quarter": (A100, A100, A100, THROTTLED),
}
LENGTHS_S = {"5min": 300, "1h": 3600, "4h": 14400}
PRIOR_ERROR, NOISE = 0.3, 0.1
WARM_S, WARM_LOAD = 1800.0, 0.2
REST_MS = 60_000.0


def segments_s(total_s: float, rng: random.Random) -> list[float]:
    """Lengths of a recording's segments, as in the trial."""
    lengths, at_s = [], 0.0
    while at_s < total_s:
        lengths.append(min(30.0, max(1.0, rng.lognormvariate(1.9, 0.7))))
        at_s += lengths[-1]
    return lengths


def cost_s(gpu: Gpu, batch: Sequence[float]) -> float:
    return gpu.overhead_s + max(batch) * len(batch) / gpu.speed


def bound_s(lengths: Sequence[float], fleet: Fleet) -> float:
    """No schedule is faster: full batches without padding everywhere, the longest segment alone."""
    rate = sum(1 / (1 / g.speed + g.overhead_s / g.batch_audio_s) for g in fleet)
    return max(sum(lengths) / rate, min(cost_s(g, [max(lengths)]) for g in fleet))


def full_batch(lengths: Sequence[float], start: int, gpu: Gpu) -> int:
    """How many from `start` on fit a batch; `lengths` fall."""
    return min(len(lengths) - start, max(1, int(gpu.batch_audio_s / lengths[start] + 1e-9)))


def even_s(lengths: Sequence[float], fleet: Fleet, rng: random.Random) -> float:
    """Makespan of an even split, each GPU in full batches."""
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
    """Makespan where whoever is free takes a full batch."""
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
    """The clairvoyant plan of the trial: its makespan, and each GPU's chunk times."""
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


def pools(fleet: Fleet, rng: random.Random) -> list[Truth]:
    """A pool for each GPU type, its priors wrong."""
    found = []
    for i, (gpu, count) in enumerate(Counter(fleet).items()):
        speed_off, overhead_off = (rng.choice((1 - PRIOR_ERROR, 1 + PRIOR_ERROR)) for _ in range(2))
        prior = PoolSpec(
            name=f"pool-{i}",
            batch_audio_ms=round(gpu.batch_audio_s * 1000),
            speed=gpu.speed * speed_off,
            overhead_ms=gpu.overhead_s * 1000 * overhead_off,
            max_ongoing=8,
            start_ms=30_000.0,
        )
        found.append(Truth(prior, count, gpu.speed, gpu.overhead_s * 1000))
    return found


def in_ms(lengths: Sequence[float]) -> tuple[int, ...]:
    return tuple(round(length_s * 1000) for length_s in lengths)


def traffic(fleet: Fleet, rng: random.Random) -> list[Arrival]:
    """30 to 60 recordings of 10 s to 10 min, at a fifth of what the fleet can do."""
    rate = WARM_LOAD / bound_s([1.0] * 100_000, fleet) * 100_000  # audio seconds a second
    arrivals: list[Arrival] = []
    at_s = 0.0
    n_requests = max(30, min(60, round(WARM_S * rate / 250)))
    while len(arrivals) < n_requests:  # half an hour would be more of the same: it has learned
        length_s = rng.choice((10, 60, 120, 600))
        lengths = in_ms(segments_s(length_s, rng))
        arrivals.append(Arrival(at_s * 1000, f"before-{len(arrivals)}", lengths))
        at_s += rng.expovariate(rate / 200)
    return arrivals


def makespan_s(
    truths: Sequence[Truth],
    lengths: Sequence[float],
    seed: int,
    routing: Routing,
    scheduler: Scheduler | None = None,
    start_ms: float = 0.0,
) -> tuple[float, Outcome]:
    simulation = Simulation(
        truths,
        [Arrival(start_ms, "recording", in_ms(lengths), interactive=False)],
        seed=seed,
        trouble=Trouble(noise=NOISE),
        routing=routing,
        scheduler=scheduler,
        start_ms=start_ms,
    )
    outcome = simulation.run()
    return outcome.done[0].latency_ms / 1000, outcome


def measure(fleet: Fleet, seed: int) -> dict[str, dict[str, float]]:
    """A recording of every length on one fleet, every way."""
    truths = pools(fleet, random.Random(1000 + seed))
    arrivals = traffic(fleet, random.Random(3000 + seed))
    warming = Simulation(truths, arrivals, seed=seed, trouble=Trouble(noise=NOISE))
    warming.run()
    return {
        length: _measure(fleet, truths, total_s, seed, warming, (1 + i) * 4 * REST_MS)
        for i, (length, total_s) in enumerate(LENGTHS_S.items())
    }


def _measure(
    fleet: Fleet,
    truths: Sequence[Truth],
    total_s: int,
    seed: int,
    warming: Simulation,
    rest_ms: float,
) -> dict[str, float]:
    lengths = segments_s(total_s, random.Random(seed))
    plan_s, chunks = together(lengths, fleet)
    rng = random.Random(2000 + seed)
    floor_s = max(sum(t * rng.lognormvariate(0, NOISE) for t in own) for own in chunks)
    cold_s, outcome = makespan_s(truths, lengths, seed, "least")
    start_ms = warming.now_ms + rest_ms
    warm_s, _ = makespan_s(truths, lengths, seed, "least", warming.scheduler, start_ms)
    serve_s, _ = makespan_s(truths, lengths, seed, "two", warming.scheduler, start_ms + 2 * REST_MS)
    return {
        "over_plan": warm_s / plan_s,
        "cold": cold_s / plan_s,
        "serve_over_plan": serve_s / plan_s,
        "floor_over_plan": floor_s / plan_s,
        "over_bound": warm_s / bound_s(lengths, fleet),
        "even_over_ours": even_s(lengths, fleet, rng) / warm_s,
        "pull_over_ours": pull_s(lengths, fleet, rng) / warm_s,
        "scheduling_s": outcome.scheduling_s,
        "chunks": outcome.n_chunks,
    }


def short_requests(fleet: Fleet, *, long_hours: float, seed: int) -> list[float]:
    """Latencies of short requests at a load of 20 %, with or without a long file in the queue."""
    rng = random.Random(seed)
    rate = 0.2 / bound_s([1.0] * 100_000, fleet) * 100_000
    end_s = 10 * 3600 / rate * 0.25 if not long_hours else long_hours * 3600 / rate * 0.25
    arrivals = [Arrival(0.0, "long", in_ms(segments_s(long_hours * 3600, rng)))] * bool(long_hours)
    rng, at_s = random.Random(seed + 1), 0.0
    while at_s < end_s:
        lengths = in_ms(segments_s(rng.uniform(3, 30), rng))
        arrivals.append(Arrival(at_s * 1000, f"short-{len(arrivals)}", lengths))
        at_s += rng.expovariate(rate / 16.5)
    truths = pools(fleet, random.Random(seed))
    trouble = Trouble(noise=NOISE)
    return latencies_ms(Simulation(truths, arrivals, seed=seed, trouble=trouble).run(), "short")


def run(
    recordings: Annotated[int, typer.Option(help="of each length and fleet", min=1)] = 20,
    real: Annotated[bool, typer.Option(help="an hour on real Ray too: a minute more")] = False,
) -> Figures:
    """The figures of every length on the worst fleet, and the scheduler's own cost."""
    runs = {
        name: [measure(fleet, seed) for seed in range(recordings)] for name, fleet in FLEETS.items()
    }
    results = {
        (length, name): [run[length] for run in runs[name]]
        for length in LENGTHS_S
        for name in FLEETS
    }

    def of(length: str, key: str, pick: Callable[[Sequence[float]], float] = max) -> float:
        medians = [median(r[key] for r in results[length, name]) for name in FLEETS]
        return round(pick(medians), 3)

    figures: Figures = {}
    for key in ("over_plan", "cold", "serve_over_plan", "floor_over_plan"):
        figures |= {f"{key}_{length}": of(length, key) for length in LENGTHS_S}
    figures["over_bound_1h"] = of("1h", "over_bound")
    figures["even_over_ours_1h"] = of("1h", "even_over_ours", median)
    figures["pull_over_ours_1h"] = of("1h", "pull_over_ours", median)
    for length in LENGTHS_S:
        for name in FLEETS:
            values = [r["over_plan"] for r in results[length, name]]
            figures[f"over_plan_{length}, {name}"] = round(median(values), 3)
    everything = [r for some in results.values() for r in some]
    scheduling_s = sum(r["scheduling_s"] for r in everything)
    n_chunks = sum(r["chunks"] for r in everything)
    figures["scheduling_us_per_chunk"] = round(scheduling_s * 1e6 / n_chunks, 1)
    figures |= _interactive()
    if real:
        from benchmarks.dispatch_on_ray import one_hour  # it imports this module, and Ray

        figures |= one_hour()
    return figures


def _interactive() -> Figures:
    fleet = FLEETS["2 T4, L4, A10G, A100"]
    alone = percentile(short_requests(fleet, long_hours=0, seed=0), 95)
    beside = percentile(short_requests(fleet, long_hours=10, seed=0), 95)
    return {
        "short_p95_ms": round(alone, 1),
        "short_p95_beside_10h_ms": round(beside, 1),
        "short_p95_over_alone": round(beside / alone, 2),
        "chunk_of_fastest_ms": cost_s(A100, [30.0] * 10) * 1000,
    }
