"""What the scheduler does where replicas die, stall, vanish or come, and where chunks kill."""

from __future__ import annotations

from dataclasses import replace

from deployments.core.events import (
    Action,
    Cancel,
    Event,
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

FAST = PoolSpec("fast", 120_000, speed=400.0, overhead_ms=30, max_ongoing=8, start_ms=30_000)
SLOW = PoolSpec("slow", 60_000, speed=100.0, overhead_ms=50, max_ongoing=8, start_ms=30_000)


def _scheduler(*sized: tuple[PoolSpec, int]) -> Scheduler:
    scheduler = Scheduler([spec for spec, _ in sized], max_queue_s=1e9)
    for spec, n_replicas in sized:
        scheduler.on_event(0, PoolSize(spec.name, n_replicas))
    return scheduler


def _orders(actions: list[Action]) -> list[Order]:
    return [action for action in actions if isinstance(action, Order)]


def _until_given_up(scheduler: Scheduler, poisoned: set[int]) -> tuple[list[int], list[int], int]:
    """Plays a request of 20 segments: answered, given up, and how many chunks were lost."""
    open_orders = scheduler.on_event(0, Submit("r", dict.fromkeys(range(20), 5_000)))
    answered: list[int] = []
    given_up: list[int] = []
    n_lost, now_ms = 0, 0.0
    while open_orders:
        action = open_orders.pop(0)
        now_ms += 1_000
        if isinstance(action, GiveUp):
            given_up += action.segments
            continue
        assert isinstance(action, Order)
        lost = bool(poisoned & set(action.segments))
        n_lost += lost
        answered += () if lost else action.segments
        event: Event = Lost(action.order) if lost else Finished(action.order, 5_000, 62.5)
        open_orders += scheduler.on_event(now_ms, event)
    return sorted(answered), given_up, n_lost


def test_a_segment_that_kills_is_found_and_costs_no_other() -> None:
    scheduler = _scheduler((FAST, 3))

    answered, given_up, n_lost = _until_given_up(scheduler, {7})

    assert given_up == [7]
    assert answered == [i for i in range(20) if i != 7]
    assert n_lost == 3  # with its chunk, with its chunk again, alone


def test_a_lost_chunk_goes_to_another_pool() -> None:
    scheduler = _scheduler((FAST, 1), (SLOW, 1))
    (first,) = _orders(scheduler.on_event(0, Submit("r", {0: 3_000})))

    (second,) = _orders(scheduler.on_event(10, Lost(first.order)))

    assert (first.pool, second.pool) == ("fast", "slow")


def test_a_late_chunk_goes_to_an_idle_replica_too_and_counts_once() -> None:
    scheduler = _scheduler((FAST, 1), (SLOW, 1))
    (first,) = _orders(scheduler.on_event(0, Submit("r", {0: 3_000})))

    early = scheduler.on_event(100, Tick())
    (second,) = _orders(scheduler.on_event(1_000, Tick()))
    again = scheduler.on_event(5_000, Tick())
    answered = scheduler.on_event(5_100, Finished(second.order, 3_000, 80.0, "slow#0"))
    lost = scheduler.on_event(5_200, Lost(first.order))

    assert early == again == answered == lost == []
    assert (second.pool, second.segments) == ("slow", (0,))
    assert scheduler.queue_s() == 0


def test_of_two_copies_one_may_die() -> None:
    scheduler = _scheduler((FAST, 1), (SLOW, 1))
    (first,) = _orders(scheduler.on_event(0, Submit("r", {0: 3_000})))
    (second,) = _orders(scheduler.on_event(1_000, Tick()))

    after_one = scheduler.on_event(1_100, Lost(second.order))
    after_both = scheduler.on_event(1_200, Lost(first.order))

    assert after_one == []
    assert [order.segments for order in _orders(after_both)] == [(0,)]


def test_a_late_chunk_stays_where_it_is_if_no_other_pool_could_win() -> None:
    snail = PoolSpec("snail", 60_000, speed=1.0, overhead_ms=50, max_ongoing=8, start_ms=1_000)
    scheduler = _scheduler((FAST, 1), (snail, 1))
    scheduler.on_event(0, Submit("r", {0: 30_000}))

    assert scheduler.on_event(1_000, Tick()) == []


def test_a_pool_that_appears_takes_its_part() -> None:
    scheduler = _scheduler((FAST, 0), (SLOW, 1))
    scheduler.on_event(0, Submit("r", dict.fromkeys(range(200), 20_000)))

    orders = _orders(scheduler.on_event(10, PoolSize("fast", 1)))

    assert orders
    assert {order.pool for order in orders} == {"fast"}


def test_what_a_vanished_pool_had_goes_to_the_others() -> None:
    scheduler = _scheduler((FAST, 1), (SLOW, 1))
    sent = _orders(scheduler.on_event(0, Submit("r", dict.fromkeys(range(9), 3_000))))
    on_fast = [order for order in sent if order.pool == "fast"]
    scheduler.on_event(5, PoolSize("fast", 0))

    again = [o for order in on_fast for o in _orders(scheduler.on_event(10, Lost(order.order)))]

    assert on_fast
    assert {order.pool for order in again} == {"slow"}


def test_a_dead_replica_is_not_counted_although_serve_still_does() -> None:
    scheduler = _scheduler((SLOW, 2))
    orders = _orders(scheduler.on_event(0, Submit("r", dict.fromkeys(range(50), 30_000))))

    scheduler.on_event(1_000, Lost(orders[0].order))
    scheduler.on_event(1_001, Lost(orders[1].order))  # the same replica's second chunk
    soon = scheduler.snapshot()["slow"]["replicas"]
    scheduler.on_event(3_000, PoolSize("slow", 2))
    still = scheduler.snapshot()["slow"]["replicas"]
    scheduler.on_event(20_000, PoolSize("slow", 2))

    assert (soon, still, scheduler.snapshot()["slow"]["replicas"]) == (1, 1, 2)


def test_a_replica_that_could_read_nothing_is_still_counted() -> None:
    scheduler = _scheduler((SLOW, 2))
    (order,) = _orders(scheduler.on_event(0, Submit("r", {0: 30_000})))

    again = _orders(scheduler.on_event(1_000, Lost(order.order, replica_lives=True)))

    assert [o.attempts for o in again] == [(2,)]
    assert scheduler.snapshot()["slow"]["replicas"] == 2


def test_an_order_names_the_replica_once_it_has_answered() -> None:
    scheduler = _scheduler((SLOW, 2))
    sent = _orders(scheduler.on_event(0, Submit("r", dict.fromkeys(range(50), 30_000))))
    scheduler.on_event(600, Finished(sent[0].order, 60_000, 600.0, "slow#a"))

    later = _orders(scheduler.on_event(601, Finished(sent[1].order, 60_000, 600.0, "slow#b")))

    assert {order.replica for order in sent} == {""}
    assert {order.replica for order in later} == {"slow#a", "slow#b"}


def test_the_replica_that_an_error_names_is_taken_out_and_no_other() -> None:
    scheduler = _scheduler((SLOW, 2))
    sent = _orders(scheduler.on_event(0, Submit("r", dict.fromkeys(range(50), 30_000))))
    for order, name in ((sent[0], "slow#a"), (sent[1], "slow#b")):
        sent += _orders(scheduler.on_event(600, Finished(order.order, 60_000, 600.0, name)))

    on_b = [order for order in sent[2:] if order.replica != "slow#a"]
    later = _orders(scheduler.on_event(700, Lost(on_b[-1].order, "slow#b")))
    later += _orders(scheduler.on_event(5_000, Lost(on_b[0].order, "slow#b")))
    for order in sent[2:]:
        later += _orders(scheduler.on_event(5_100, Finished(order.order, 60_000, 600.0, "slow#a")))

    assert scheduler.snapshot()["slow"]["replicas"] == 1
    assert {order.replica for order in later} == {"slow#a"}


def test_a_segment_longer_than_many_batches_is_sent_although_two_could_not_share_it() -> None:
    small = replace(SLOW, batch_audio_ms=1_000, overhead_ms=0)
    scheduler = _scheduler((small, 2))

    orders = _orders(scheduler.on_event(0, Submit("r", {0: 30_000}, interactive=False)))

    assert [order.segments for order in orders] == [(0,)]


def test_a_cancelled_request_leaves_nothing_behind() -> None:
    scheduler = _scheduler((FAST, 1), (SLOW, 1))
    orders = _orders(scheduler.on_event(0, Submit("r", dict.fromkeys(range(99), 9_000))))
    scheduler.on_event(5_000, Tick())

    scheduler.on_event(5_001, Cancel("r"))
    late = scheduler.on_event(5_002, Lost(orders[0].order))

    assert late == []
    assert scheduler.queue_s() == scheduler.waiting_s == scheduler.backlog_s == 0


def test_the_replica_that_an_order_was_lost_with_gets_no_other() -> None:
    scheduler = Scheduler([SLOW], max_queue_s=1e9)
    names = ("slow#a", "slow#b", "slow#c")
    scheduler.on_event(0, PoolSize("slow", 3, names))
    sent = _orders(scheduler.on_event(0, Submit("r", dict.fromkeys(range(200), 10_000))))
    dead = sent[0].replica

    again = _orders(scheduler.on_event(100, Lost(sent[0].order)))
    again += _orders(scheduler.on_event(3_000, PoolSize("slow", 3, names)))
    for order in sent:
        if order.replica != dead:
            done = Finished(order.order, 60_000, 650.0, order.replica)
            again += _orders(scheduler.on_event(3_001, done))

    assert {order.replica for order in again} == set(names) - {dead}


def test_a_replica_that_replaces_a_dead_one_is_used_at_once() -> None:
    scheduler = Scheduler([SLOW], max_queue_s=1e9)
    scheduler.on_event(0, PoolSize("slow", 2, ("slow#a", "slow#b")))
    sent = _orders(scheduler.on_event(0, Submit("r", dict.fromkeys(range(99), 10_000))))
    lost = next(order for order in sent if order.replica == "slow#a")
    scheduler.on_event(100, Lost(lost.order))

    orders = _orders(scheduler.on_event(200, PoolSize("slow", 2, ("slow#b", "slow#c"))))

    assert {order.replica for order in orders} == {"slow#c"}


def test_a_chunk_that_takes_far_too_long_is_cut_up_among_idle_replicas() -> None:
    scheduler = Scheduler([FAST], max_queue_s=1e9)
    names = tuple(f"fast#{i}" for i in range(4))
    scheduler.on_event(0, PoolSize("fast", 4, names))
    sent = _orders(
        scheduler.on_event(0, Submit("r", dict.fromkeys(range(16), 7_000), interactive=True))
    )
    *others, late = sent

    copies: list[Order] = []
    for at_ms, order in zip((100, 101, 1_000), others, strict=True):
        done = Finished(order.order, 7_000 * len(order.segments), 100.0, order.replica)
        copies += _orders(scheduler.on_event(at_ms, done))
    again = [scheduler.on_event(2_000, Finished(o.order, 7_000, 40.0, o.replica)) for o in copies]
    lost = scheduler.on_event(2_001, Lost(late.order))

    assert sorted(s for copy in copies for s in copy.segments) == sorted(late.segments)
    assert late.replica not in {copy.replica for copy in copies}
    assert again == [[] for _ in copies]
    assert lost == []
    assert scheduler.backlog_s == 0


def test_nothing_is_done_twice_while_a_recording_is_still_being_read() -> None:
    scheduler = Scheduler([FAST], max_queue_s=1e9)
    scheduler.on_event(0, PoolSize("fast", 4, tuple(f"fast#{i}" for i in range(4))))
    speech = dict.fromkeys(range(16), 7_000)
    *others, _ = _orders(
        scheduler.on_event(0, Submit("r", speech, coming_ms=600_000, interactive=True))
    )

    more: list[Action] = []
    for at_ms, order in zip((100, 101, 1_000), others, strict=True):
        done = Finished(order.order, 7_000 * len(order.segments), 100.0, order.replica)
        more += scheduler.on_event(at_ms, done)

    assert more == []


def test_a_named_loss_is_of_that_replica_whoever_was_to_have_the_chunk() -> None:
    scheduler = Scheduler([SLOW], max_queue_s=1e9)
    names = ("slow#a", "slow#b")
    scheduler.on_event(0, PoolSize("slow", 2, names))
    first = _orders(scheduler.on_event(0, Submit("r", dict.fromkeys(range(199), 10_000))))
    known = [Finished(o.order, 30_000, 350.0, o.replica) for o in first]
    sent = [order for event in known for order in _orders(scheduler.on_event(50, event))]
    to_b, other = [order for order in sent if order.replica == "slow#b"]

    unknown = _orders(scheduler.on_event(100, Lost(to_b.order, replica="slow#gone")))
    n_after_unknown = scheduler.snapshot()["slow"]["replicas"]
    later = _orders(scheduler.on_event(200, Lost(other.order, replica="slow#a")))
    for order in (order for order in sent if order.replica == "slow#a"):
        later += _orders(scheduler.on_event(200, Lost(order.order, replica="slow#a")))

    assert {order.replica for order in unknown} == {"slow#b"}
    assert n_after_unknown == 2
    assert {order.replica for order in later} == {"slow#b"}
    assert scheduler.snapshot()["slow"]["replicas"] == 1


def test_a_pool_is_empty_until_its_only_named_replica_is_replaced() -> None:
    scheduler = Scheduler([FAST, SLOW], max_queue_s=1e9)
    scheduler.on_event(0, PoolSize("fast", 1, ("fast#a",)))
    scheduler.on_event(0, PoolSize("slow", 1, ("slow#a",)))
    sent = _orders(scheduler.on_event(0, Submit("r", dict.fromkeys(range(999), 10_000))))
    at_fast = [order for order in sent if order.pool == "fast"]

    meanwhile: list[Order] = []
    for order in at_fast:
        meanwhile += _orders(scheduler.on_event(100, Lost(order.order, replica="fast#a")))
    meanwhile += _orders(scheduler.on_event(200, PoolSize("fast", 1, ("fast#a",))))
    later = _orders(scheduler.on_event(300, PoolSize("fast", 1, ("fast#b",))))

    assert {order.replica for order in at_fast} == {"fast#a"}
    assert {order.pool for order in meanwhile} <= {"slow"}
    assert {order.replica for order in later if order.pool == "fast"} == {"fast#b"}


def test_the_only_pool_has_orders_for_whoever_replaces_its_only_replica() -> None:
    scheduler = Scheduler([SLOW], max_queue_s=1e9)
    scheduler.on_event(0, PoolSize("slow", 1, ("slow#a",)))
    sent = _orders(scheduler.on_event(0, Submit("r", dict.fromkeys(range(99), 10_000))))

    again: list[Order] = []
    for order in sent:
        again += _orders(scheduler.on_event(100, Lost(order.order, replica="slow#a")))

    assert {order.replica for order in sent} == {"slow#a"}
    assert again
    assert {order.replica for order in again} == {""}


def test_a_copy_that_travels_longer_than_it_saves_is_not_sent() -> None:
    copies = {}
    for round_trip_ms in (0.0, 5_000.0):
        scheduler = Scheduler([FAST], max_queue_s=1e9, round_trip_ms=round_trip_ms)
        names = tuple(f"fast#{i}" for i in range(4))
        scheduler.on_event(0, PoolSize("fast", 4, names))
        *others, _ = _orders(
            scheduler.on_event(0, Submit("r", dict.fromkeys(range(16), 7_000), interactive=True))
        )
        copies[round_trip_ms] = [
            copy
            for at_ms, order in zip((100, 101, 1_000), others, strict=True)
            for copy in scheduler.on_event(
                at_ms, Finished(order.order, 28_000, 100.0, order.replica)
            )
        ]

    assert copies[0.0]
    assert copies[5_000.0] == []
