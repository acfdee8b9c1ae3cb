"""Segments that kill their replica: where each is tried, what is given up, what it costs others."""

from __future__ import annotations

import random

import pytest

from cluster.simulation.scenario import Arrival, Trouble, Truth
from cluster.simulation.simulator import Simulation
from deployments.core.scheduler.events import Cancel, GiveUp, Tick
from deployments.core.scheduler.planning import PoolSpec
from deployments.core.scheduler.pools import PoolState
from tests.core.scheduler.play import Cluster

SMALL = PoolSpec("small", 60_000, speed=250.0, overhead_ms=50, max_ongoing=8, start_ms=1_000)


@pytest.mark.parametrize("n_replicas", [2, 4])
def test_segments_that_kill_cost_no_other_although_replicas_are_shared(n_replicas: int) -> None:
    """Whatever shares a replica with them is lost with it, again and again."""
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
    cluster = Cluster((SMALL, 4))
    cluster.submit(0, "long", dict.fromkeys(range(2_000), 7_000))
    cluster.submit(0, "r", {0: 5_000})
    cluster.kill(100, cluster.of("r")[0].replica)
    cluster.kill(200, cluster.of("r")[0].replica)

    cluster.play(1_000, until=lambda order: order.request == "r")
    (suspect,) = cluster.of("r")
    beside = [order for order in cluster.open if order.replica == suspect.replica]
    idle_others = cluster.tell(60_000, Cancel("long")) + cluster.tell(60_001, Tick())
    cluster.lose(60_002, suspect)

    assert suspect.attempts == (3,)
    assert beside == [suspect]
    assert idle_others == []
    assert cluster.given_up == [GiveUp("r", (0,))]


def test_a_call_that_hangs_with_a_replica_that_is_gone_keeps_nobody_waiting() -> None:
    """The call may be with any replica, so a suspect waits; but not for longer than it can last."""
    cluster = Cluster((SMALL, 1))
    cluster.submit(0, "hung", {0: 50_000})
    cluster.runs(100, "small", "small#1")
    (order,) = cluster.submit(110, "x", {0: 5_000})
    cluster.lose(200, order, "small#1")
    cluster.runs(250, "small", "small#2")
    (again,) = cluster.of("x")
    cluster.lose(300, again, "small#2")

    soon = cluster.runs(400, "small", "small#3")
    (short,) = cluster.submit(500, "short", {0: 3_000})
    late = cluster.answer(600, short) + cluster.tell(5_000, Tick())

    assert soon == []
    assert short.replica == "small#3"
    assert "x" in {order.request for order in late}


def test_an_innocent_is_not_given_up_because_serve_notices_first() -> None:
    """What its replica had beside it counts, whoever says first that the replica is dead."""
    cluster = Cluster((SMALL, 1))
    cluster.submit(0, "innocent", {0: 5_000})
    cluster.submit(0, "poison", {0: 6_000})

    cluster.runs(500, "small")
    cluster.kill(500, "small#0")
    cluster.runs(1_000, "small", "small#1")
    cluster.runs(1_500, "small")
    cluster.kill(1_500, "small#1")
    cluster.runs(2_000, "small", "small#2")

    assert cluster.given_up == []


def test_a_replica_kept_for_a_suspect_is_free_when_its_request_is_cancelled() -> None:
    cluster = Cluster((SMALL, 2))
    (a,) = cluster.submit(0, "a", {0: 50_000})
    (b,) = cluster.submit(0, "b", {0: 50_000})
    (lost,) = cluster.submit(1, "x", {0: 1_000})
    (again,) = cluster.lose(2, lost, lives=True)
    cluster.lose(3, again, lives=True)  # now it waits for one of the two replicas

    while_kept = cluster.submit(4, "y", {0: 1_000})
    cluster.tell(5, Cancel("x"))
    cluster.answer_all(6, cluster.of("y"))
    cluster.answer(300, a)
    copies = cluster.tell(1_500, Tick())

    assert {order.replica for order in while_kept} <= {b.replica}
    assert [(copy.request, copy.replica) for copy in copies] == [("b", a.replica)]


def test_a_death_is_noted_also_where_an_order_reports_it_that_was_swept() -> None:
    """It was on its way to another replica, and met this one."""
    cluster = Cluster((SMALL, 3))
    for i in range(6):
        cluster.submit(0, f"r{i}", {0: 20_000})
    first, second = (order for order in cluster.open if order.replica == "small#0")
    cluster.lose(10, first, "small#0")

    again = cluster.lose(20, second, "small#1")

    assert cluster.scheduler.snapshot()["small"]["replicas"] == 1
    assert {order.replica for order in again} <= {"small#2"}


def test_nobody_waits_for_a_replica_that_hangs_while_others_are_idle() -> None:
    """It was to be free long ago, so it would come first of all by that time."""
    cluster = Cluster((SMALL, 12))
    cluster.submit(0, "reading", {}, coming_ms=600_000)  # so nothing is copied
    for i in range(12):
        cluster.submit(0, f"r{i}", {0: 5_000}, interactive=False)
    *_, a, b, c = cluster.open
    cluster.answer_all(300, [a, b, c])  # long after the others were to be done

    (order,) = cluster.submit(301, "short", {0: 3_000})
    (again,) = cluster.lose(302, order, lives=True)

    idle = {a.replica, b.replica, c.replica}
    assert order.replica in idle
    assert again.replica in idle - {order.replica}


def test_a_suspect_does_not_wait_for_a_replica_that_hangs() -> None:
    pool = PoolState(SMALL)
    pool.set_replicas(0, ("hangs", "works"))
    pool.place(0, 1, 5_000, slot_number=1)
    pool.place(10_000, 2, 5_000, slot_number=2)

    kept = pool.first_to_keep(10_001)

    assert kept is not None
    assert pool.replica_of(kept) == "works"


def test_a_suspect_waits_for_the_replica_that_replaces_the_last_one() -> None:
    """What is sent to a pool at zero may all meet the replica that starts first."""
    cluster = Cluster((SMALL, 2))
    (x,) = cluster.submit(0, "x", {0: 5_000})
    cluster.submit(0, "y", {0: 5_000})
    cluster.kill(1, x.replica)  # now x and y share a replica

    (y,) = cluster.kill(2, cluster.of("y")[0].replica)
    at_start = cluster.runs(1_000, "small", "small#2")
    (suspect,) = cluster.answer(1_100, y, replica="small#2")

    assert (y.request, y.replica) == ("y", "")
    assert at_start == []
    assert (suspect.request, suspect.replica, suspect.attempts) == ("x", "small#2", (3,))
