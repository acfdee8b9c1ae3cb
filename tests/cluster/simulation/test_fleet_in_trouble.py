"""Fleets that scale, lose replicas and meet deadly segments still answer every recording."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

import pytest

from cluster.simulation.scenario import Arrival, Policy, PoolNow, Trouble, Truth
from cluster.simulation.simulator import Simulation
from deployments.core.scheduler.planning import PoolSpec

LATEST_MS = 4e6  # a recording that has not ended by then counts as hanging


def pools(rng: random.Random) -> list[Truth]:
    found = []
    for i in range(rng.randint(1, 3)):
        spec = PoolSpec(
            f"p{i}",
            batch_audio_ms=rng.choice([30_000, 120_000, 600_000]),
            speed=rng.choice([250.0, 2500.0]),
            overhead_ms=rng.choice([0.0, 30.0, 300.0]),
            max_ongoing=rng.randint(1, 8),
            start_ms=rng.choice([500.0, 5_000.0, 30_000.0]),
            can_start=True,
        )
        speed, overhead_ms = (v * rng.choice([0.7, 1.3]) for v in (spec.speed, spec.overhead_ms))
        found.append(Truth(spec, rng.randint(1, 2), speed, overhead_ms, rng.randint(1, 4)))
    return found


def arrivals(rng: random.Random) -> list[Arrival]:
    found: list[Arrival] = []
    at_ms = 0.0
    for i in range(rng.randint(5, 60)):
        lengths_ms = tuple(rng.randint(300, 30_000) for _ in range(rng.choice([1, 1, 3, 20, 200])))
        found.append(Arrival(at_ms, f"r{i}", lengths_ms, rng.choice([None, True, False])))
        at_ms += rng.expovariate(1 / rng.choice([100.0, 1_000.0, 10_000.0]))
    return found


def random_targets(rng: random.Random) -> Policy:
    """A policy that resizes pools at random, but never all of them to zero."""

    def policy(now_ms: float, state: Sequence[PoolNow]) -> Mapping[str, int]:
        targets = {
            pool.name: rng.randint(0, pool.max_replicas) if rng.random() < 0.3 else pool.target
            for pool in state
        }
        return targets if any(targets.values()) else {**targets, state[0].name: 1}

    return policy


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(40))
def test_every_recording_ends_and_only_deadly_segments_are_given_up(seed: int) -> None:
    rng = random.Random(seed)
    fleet, recordings = pools(rng), arrivals(rng)
    poison = {(a.name, rng.randrange(len(a.lengths_ms))) for a in recordings if rng.random() < 0.05}

    simulation = Simulation(
        fleet,
        recordings,
        seed=seed,
        trouble=Trouble(noise=0.1, stragglers=rng.choice([0.0, 0.3]), poison=tuple(poison)),
        policy=random_targets(rng) if rng.random() < 0.6 else None,
        policy_every_ms=rng.choice([200.0, 5_000.0]),
    )
    outcome = simulation.run(until_ms=LATEST_MS)

    answered = {(name, s) for name, segments in outcome.answers.items() for s in segments}
    given_up = {(a.name, s) for a in recordings for s in range(len(a.lengths_ms))} - answered
    assert outcome.refused == 0
    assert {done.name for done in outcome.done} == {a.name for a in recordings}
    assert given_up == poison
