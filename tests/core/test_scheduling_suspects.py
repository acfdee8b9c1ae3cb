"""Segments that kill: who is tried where, what is given up, and what it costs the others."""

from __future__ import annotations

import random

import pytest

from cluster.scenario import Arrival, Trouble, Truth
from cluster.simulation import Simulation
from deployments.core.events import (
    Action,
    Cancel,
    Finished,
    GiveUp,
    Lost,
    Order,
    PoolSize,
    Submit,
    Tick,
)
from deployments.core.planning import PoolSpec
from deployments.core.scheduling import Scheduler

SMALL = PoolSpec("small", 60_000, speed=250.0, overhead_ms=50, max_ongoing=8, start_ms=1_000)


def _scheduler(n_replicas: int) -> Scheduler:
    scheduler = Scheduler([SMALL], max_queue_s=1e9)
    scheduler.on_event(0, _running(*(f"small#{i}" for i in range(n_replicas))))
    return scheduler


def _running(*names: str) -> PoolSize:
    return PoolSize("small", len(names), names)


def _orders(actions: list[Action]) -> list[Order]:
    return [action for action in actions if isinstance(action, Order)]


def _done(order: Order, lengths_ms: dict[int, int]) -> Finished:
    padded_ms = len(order.segments) * max(lengths_ms[s] for s in order.segments)
    return Finished(order.order, padded_ms, 50 + padded_ms / 250, order.replica)


@pytest.mark.parametrize("n_replicas", [2, 4])
def test_segments_that_kill_cost_no_other_although_replicas_are_shared(n_replicas: int) -> None:
    """Whoever shares a replica with them dies with it, again and again."""
    rng = random.Random(n_replicas)
    poison = tuple((f"r{i % 2}", rng.randrange(300)) for i in range(4))
    arrivals = [
        Arrival(0.0, f"r{i}", tuple(rng.randint(2_000, 12_000) for _ in range(300)))
        for i in range(2)
    ]
    trouble = Trouble(noise=0.1, poison=poison, replace_ms=2_000.0)

    simulation = Simulation([Truth(SMALL, n_replicas, 250.0, 50.0)], arrivals, trouble=trouble)
    outcome = simulation.run(until_ms=3e6)

    answered = {(name, s) for name, segments in outcome.answers.items() for s in segments}
    assert {(f"r{i}", s) for i in range(2) for s in range(300)} - answered == set(poison)
    assert len(outcome.done) == 2


def test_a_suspect_has_its_replica_for_itself_and_is_never_sent_twice() -> None:
    lengths_ms = dict.fromkeys(range(2_000), 7_000)
    scheduler = _scheduler(4)
    open_orders = _orders(scheduler.on_event(0, Submit("long", lengths_ms)))
    open_orders += _orders(scheduler.on_event(0, Submit("r", {0: 5_000})))
    for at_ms in (100, 200):
        (order,) = [o for o in open_orders if o.request == "r"]
        open_orders = [o for o in open_orders if o.replica != order.replica]
        lost = Lost(order.order, replica=order.replica)
        open_orders += _orders(scheduler.on_event(at_ms, lost))

    suspect, beside = None, []
    for at_ms in range(1_000, 9_000, 100):
        done = next(o for o in open_orders if o.request == "long")
        open_orders.remove(done)
        sent = _orders(scheduler.on_event(at_ms, _done(done, lengths_ms)))
        open_orders += sent
        suspect = suspect or next((o for o in sent if o.request == "r"), None)
        if suspect:
            beside += [o for o in open_orders if o.replica == suspect.replica and o != suspect]

    assert suspect is not None
    assert suspect.attempts == (3,)
    assert beside == []
    assert scheduler.on_event(9_000, Cancel("long")) == []
    assert scheduler.on_event(60_000, Tick()) == []  # the others have nothing
    assert scheduler.on_event(60_001, Lost(suspect.order)) == [GiveUp("r", (0,))]


def test_a_call_that_hangs_with_a_replica_that_is_gone_keeps_nobody_waiting() -> None:
    """It could be with any replica for a while; a suspect goes ahead where it has hung too long."""
    scheduler = _scheduler(2)
    (hung,) = _orders(scheduler.on_event(0, Submit("hung", {0: 50_000})))
    (other,) = {"small#0", "small#1"} - {hung.replica}
    scheduler.on_event(100, _running(other))
    (order,) = _orders(scheduler.on_event(110, Submit("x", {0: 5_000})))
    (again,) = _orders(scheduler.on_event(200, Lost(order.order, other))) or _orders(
        scheduler.on_event(250, _running("small#2"))
    )
    scheduler.on_event(300, Lost(again.order, again.replica or "small#2"))
    soon = scheduler.on_event(400, _running("small#3"))

    short = _orders(scheduler.on_event(500, Submit("short", {0: 3_000})))
    late = _orders(scheduler.on_event(5_000, Tick()))
    late += _orders(scheduler.on_event(5_100, _done(short[0], {0: 3_000})))

    assert _orders(soon) == []
    assert [o.request for o in short] == ["short"]
    assert "x" in {o.request for o in late}


def test_an_innocent_is_not_given_up_because_serve_notices_first() -> None:
    """What its replica had beside it counts, whoever says first that it is dead."""
    scheduler = _scheduler(1)
    sent = _orders(scheduler.on_event(0, Submit("innocent", {0: 5_000})))
    sent += _orders(scheduler.on_event(0, Submit("poison", {0: 6_000})))

    actions: list[Action] = []
    for i in range(2):
        scheduler.on_event(500 + 1_000 * i, PoolSize("small", 0))
        for order in sorted(sent, key=lambda order: order.request):
            actions += scheduler.on_event(500 + 1_000 * i, Lost(order.order, f"small#{i}"))
        actions += scheduler.on_event(1_000 + 1_000 * i, _running(f"small#{i + 1}"))
        sent = _orders(actions)[-2:]

    assert not [action for action in actions if isinstance(action, GiveUp)]


def test_a_replica_kept_for_a_suspect_is_free_when_its_request_is_cancelled() -> None:
    scheduler = _scheduler(2)
    sent = _orders(scheduler.on_event(0, Submit("a", {0: 50_000})))
    sent += _orders(scheduler.on_event(0, Submit("b", {0: 50_000})))
    (lost,) = _orders(scheduler.on_event(1, Submit("x", {0: 1_000})))
    scheduler.on_event(2, Lost(lost.order, replica_lives=True))
    again = max(scheduler._ledger.orders)
    scheduler.on_event(3, Lost(again, replica_lives=True))  # now it waits for one of the two

    scheduler.on_event(4, Cancel("x"))
    scheduler.on_event(300, _done(sent[0], {0: 50_000}))
    copies = _orders(scheduler.on_event(1_000, Tick()))

    assert [(copy.request, copy.replica) for copy in copies] == [("b", sent[0].replica)]


def test_a_death_is_noted_also_where_an_order_tells_it_that_was_thought_lost() -> None:
    """It was on its way to another replica, and found this one."""
    scheduler = _scheduler(3)
    for i in range(6):
        scheduler.on_event(0, Submit(f"r{i}", {0: 20_000}))
    had = {n: sent.order.replica for n, sent in scheduler._ledger.orders.items()}
    first, second = (n for n, replica in had.items() if replica == "small#0")
    scheduler.on_event(10, Lost(first, "small#0"))

    again = _orders(scheduler.on_event(20, Lost(second, "small#1")))

    assert scheduler.snapshot()["small"]["replicas"] == 1
    assert {order.replica for order in again} <= {"small#2"}


def test_nobody_waits_for_a_replica_that_hangs_while_others_are_idle() -> None:
    """It was to be free long ago, so it would be the first of all by that time."""
    scheduler = _scheduler(12)
    sent: list[Order] = []
    for i in range(12):
        sent += _orders(scheduler.on_event(0, Submit(f"r{i}", {0: 5_000}, interactive=False)))
    *hung, a, b, c = sent
    for order in (a, b, c):  # long after the others were to be done
        scheduler.on_event(300, _done(order, {0: 5_000}))
    pool = scheduler._pools["small"]

    (order,) = _orders(scheduler.on_event(301, Submit("short", {0: 3_000})))
    kept = pool.first_to_keep(301)
    lost = Lost(order.order, order.replica, replica_lives=True)
    (again,) = _orders(scheduler.on_event(302, lost))

    idle = {a.replica, b.replica, c.replica}
    assert len({order.replica for order in hung} - idle) == 9
    assert order.replica in idle
    assert kept is not None
    assert pool.slots[kept].replica in idle - {order.replica}
    assert again.replica in idle - {order.replica}
