"""What is known of a pool's replicas, and what is left of it when they are gone."""

from __future__ import annotations

import random

import pytest

from deployments.core.scheduler.events import Refuse, Submit
from deployments.core.scheduler.planning import PoolSpec
from deployments.core.scheduler.speeds import KnownSpeeds, SpeedFit
from tests.core.scheduler.play import Cluster, names

POOL = PoolSpec("t4", 60_000, 250.0, 50, max_ongoing=8, start_ms=30_000, can_start=True)


def test_of_replicas_that_are_gone_nothing_is_left() -> None:
    """Not even what rounding leaves of a sum."""
    rng = random.Random(0)
    known = KnownSpeeds(50.0, 1 / 250, 60_000)
    fits = [SpeedFit(50.0, 1 / 250) for _ in range(20)]
    for fit in fits:
        fit.learn(60_000, rng.uniform(200, 400))
        known.add(fit)

    for fit in fits:
        known.remove(fit)

    assert (known.n, known.rate) == (0, 0.0)
    assert known.typical() == (50.0, 1 / 250)


@pytest.mark.parametrize("seed", range(20))
def test_a_request_that_comes_after_the_last_replica_was_given_back_is_taken(seed: int) -> None:
    rng = random.Random(seed)
    cluster = Cluster((POOL, 5), max_queue_s=60.0)
    speech = dict.fromkeys(range(200), 7_000)
    cluster.submit(0, "r", speech)
    cluster.play(times={name: rng.uniform(0.8, 1.6) for name in names("t4", 5)})

    cluster.runs(2_000, "t4")
    cluster.submit(3_000, "first", speech)
    actions = cluster.scheduler.on_event(3_001, Submit("next", {0: 5_000}))

    assert Refuse not in {type(action) for action in actions}
    assert cluster.scheduler.queue_s() == pytest.approx(1400 / 200, rel=0.4)
