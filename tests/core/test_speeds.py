"""What is known of a pool's replicas, and what is left of it when they are gone."""

from __future__ import annotations

import random

import pytest

from deployments.core.events import Finished, Order, PoolSize, Refuse, Submit
from deployments.core.planning import PoolSpec
from deployments.core.scheduling import Scheduler
from deployments.core.speeds import KnownSpeeds, SpeedFit

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
    scheduler = Scheduler([POOL], max_queue_s=60.0)
    names = tuple(f"t4#{i}" for i in range(5))
    scheduler.on_event(0, PoolSize("t4", 5, names))
    speech = dict.fromkeys(range(200), 7_000)
    orders = [o for o in scheduler.on_event(0, Submit("r", speech)) if isinstance(o, Order)]
    while orders:
        order = orders.pop(0)
        done = Finished(order.order, 56_000, rng.uniform(200, 400), order.replica)
        orders += [o for o in scheduler.on_event(1_000, done) if isinstance(o, Order)]

    scheduler.on_event(2_000, PoolSize("t4", 0))
    scheduler.on_event(3_000, Submit("first", speech))
    actions = scheduler.on_event(3_001, Submit("next", {0: 5_000}))

    assert not any(isinstance(action, Refuse) for action in actions)
    assert scheduler.queue_s() == pytest.approx(1400 / 200, rel=0.4)
