"""The pools of a fleet for the simulator, and the traffic from which a scheduler learns speeds."""

from __future__ import annotations

import random
from collections import defaultdict

from benchmarks.dispatch.fleets import Fleet, Gpu, in_ms, rate, segments_s
from cluster.simulation.scenario import Arrival, Truth
from deployments.core.scheduler.planning import PoolSpec

WARM_S = 1800.0
WARM_LOAD = 0.2  # of the fleet's speed
WARM_MOST = 1800  # recordings at most, the last ones: the scheduler forgets older ones
WARM_LENGTHS_S = (10, 60, 120, 600)


def spec(name: str, gpu: Gpu) -> PoolSpec:
    """A pool of such GPUs as the scheduler is told of it."""
    return PoolSpec(
        name=name,
        batch_audio_ms=round(gpu.batch_audio_s * 1000),
        speed=gpu.speed,
        overhead_ms=gpu.overhead_s * 1000,
        max_ongoing=8,
        start_ms=30_000.0,
    )


def pools(types: Fleet, actual: Fleet) -> list[Truth]:
    """A pool for each type of GPU, with the true speed and overhead of each replica."""
    members: dict[Gpu, list[tuple[float, float]]] = defaultdict(list)
    for kind, gpu in zip(types, actual, strict=True):
        members[kind].append((gpu.speed, gpu.overhead_s * 1000))
    return [
        Truth(spec(t.kind, t), len(own), t.speed, t.overhead_s * 1000, each=tuple(own))
        for t, own in members.items()
    ]


def known_pools(actual: Fleet) -> list[Truth]:
    """A pool for each GPU, whose prior is right."""
    return [
        Truth(spec(f"{gpu.kind}-{i}", gpu), 1, gpu.speed, gpu.overhead_s * 1000)
        for i, gpu in enumerate(actual)
    ]


def traffic(fleet: Fleet, rng: random.Random) -> list[Arrival]:
    """The last recordings, of 10 s to 10 min each, of half an hour of traffic."""
    mean_s = sum(WARM_LENGTHS_S) / len(WARM_LENGTHS_S)
    every_s = mean_s / (WARM_LOAD * rate(fleet))
    arrivals: list[Arrival] = []
    at_s = max(0.0, WARM_S - WARM_MOST * every_s)
    while at_s < WARM_S:
        lengths = in_ms(segments_s(rng.choice(WARM_LENGTHS_S), rng))
        arrivals.append(Arrival(at_s * 1000, f"before-{len(arrivals)}", lengths))
        at_s += rng.expovariate(1 / every_s)
    return arrivals
