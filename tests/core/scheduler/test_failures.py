"""What the scheduler does where replicas die, stall, vanish or come, and where chunks kill."""

from __future__ import annotations

from dataclasses import replace

import pytest

from deployments.core.scheduler.events import Cancel, Lost, Order, Tick
from deployments.core.scheduler.planning import PoolSpec
from tests.core.scheduler.play import FAST, SLOW, Cluster, names


def test_a_segment_that_cannot_be_read_is_found_and_costs_no_other() -> None:
    cluster = Cluster((FAST, 3))
    cluster.submit(0, "r", dict.fromkeys(range(20), 5_000))

    ended = cluster.play(kills=lambda order: 7 in order.segments)

    assert ended.given_up == [7]
    assert sorted(ended.answered) == [i for i in range(20) if i != 7]
    assert ended.n_lost == 3  # with its chunk, with its chunk again, alone


def test_a_lost_chunk_goes_to_another_pool() -> None:
    cluster = Cluster((FAST, 1), (SLOW, 1))
    (first,) = cluster.submit(0, "r", {0: 3_000})

    (second,) = cluster.lose(10, first)

    assert (first.pool, second.pool) == ("fast", "slow")


def test_a_late_chunk_goes_to_an_idle_replica_too_and_counts_once() -> None:
    cluster = Cluster((FAST, 1), (SLOW, 1))
    (first,) = cluster.submit(0, "r", {0: 3_000})

    early = cluster.tell(30, Tick())
    (second,) = cluster.tell(1_000, Tick())
    again = cluster.tell(5_000, Tick())
    answered = cluster.answer(5_100, second)
    lost = cluster.lose(5_200, first)

    assert early == again == answered == lost == []
    assert (second.pool, second.segments) == ("slow", (0,))
    assert cluster.scheduler.queue_s() == 0


def test_of_two_copies_one_may_be_lost() -> None:
    cluster = Cluster((FAST, 1), (SLOW, 1))
    (first,) = cluster.submit(0, "r", {0: 3_000})
    (second,) = cluster.tell(1_000, Tick())

    after_one = cluster.lose(1_100, second)
    cluster.runs(1_150, "slow", "slow#1")
    after_both = cluster.lose(1_200, first)

    assert after_one == []
    assert [order.segments for order in after_both] == [(0,)]


def test_a_late_chunk_is_not_copied_where_no_other_replica_could_be_first() -> None:
    snail = PoolSpec("snail", 60_000, speed=1.0, overhead_ms=50, max_ongoing=8, start_ms=1_000)
    cluster = Cluster((FAST, 1), (snail, 1))
    cluster.submit(0, "r", {0: 30_000})

    assert cluster.tell(1_000, Tick()) == []


def test_a_late_chunk_is_copied_although_another_recording_is_still_being_read() -> None:
    cluster = Cluster((FAST, 2))
    cluster.submit(0, "reading", {}, coming_ms=600_000)
    (first,) = cluster.submit(0, "r", {0: 3_000})

    not_late = cluster.tell(200, Tick())
    (second,) = cluster.tell(1_000, Tick())

    assert not_late == []
    assert (second.request, second.segments) == ("r", (0,))
    assert second.replica != first.replica


def test_a_late_chunk_of_a_replica_that_is_no_longer_listed_is_copied() -> None:
    """The call to it hangs, so nobody reports the chunk."""
    cluster = Cluster((FAST, 2))
    (first,) = cluster.submit(0, "r", {0: 5_000})
    (other,) = set(names("fast", 2)) - {first.replica}
    cluster.runs(100, "fast", other)

    (copy,) = cluster.tell(1_000, Tick())

    assert (copy.replica, copy.segments) == (other, (0,))


def test_a_late_chunk_of_a_pool_that_does_not_start_is_copied() -> None:
    cluster = Cluster((replace(FAST, can_start=True), 0), (SLOW, 0))
    (first,) = cluster.submit(0, "r", {0: 5_000})
    cluster.runs(1_000, "slow", "slow#0")

    while_starting = cluster.tell(20_000, Tick())
    (copy,) = cluster.tell(60_000, Tick())

    assert (first.pool, first.replica) == ("fast", "")
    assert while_starting == []
    assert copy.replica == "slow#0"


def test_a_replica_that_is_listed_twice_is_one() -> None:
    cluster = Cluster((SLOW, 0))

    cluster.runs(0, "slow", "slow#0", "slow#0")

    assert cluster.scheduler.snapshot()["slow"]["replicas"] == 1


def test_a_pool_that_appears_takes_its_part() -> None:
    cluster = Cluster((FAST, 0), (SLOW, 1))
    cluster.submit(0, "r", dict.fromkeys(range(200), 20_000))

    sent = cluster.runs(10, "fast", "fast#0")

    assert sent
    assert {order.pool for order in sent} == {"fast"}


def test_what_a_vanished_pool_had_goes_to_the_others() -> None:
    cluster = Cluster((FAST, 1), (SLOW, 1))
    cluster.submit(0, "r", dict.fromkeys(range(9), 3_000))
    cluster.runs(5, "fast")

    again = cluster.kill(10, "fast#0")

    assert {order.pool for order in again} == {"slow"}


def test_a_dead_replica_is_not_counted_although_serve_still_lists_it() -> None:
    cluster = Cluster((SLOW, 2))
    first, *_ = cluster.submit(0, "r", dict.fromkeys(range(50), 30_000))

    cluster.kill(1_000, first.replica)
    soon = cluster.scheduler.snapshot()["slow"]["replicas"]
    cluster.runs(3_000, "slow", *names("slow", 2))
    still = cluster.scheduler.snapshot()["slow"]["replicas"]
    cluster.runs(20_000, "slow", *names("slow", 2))

    assert (soon, still, cluster.scheduler.snapshot()["slow"]["replicas"]) == (1, 1, 2)


def test_a_replica_that_could_read_nothing_is_still_counted() -> None:
    cluster = Cluster((SLOW, 2))
    (order,) = cluster.submit(0, "r", {0: 30_000})

    again = cluster.lose(1_000, order, lives=True)

    assert [order.attempts for order in again] == [(2,)]
    assert cluster.scheduler.snapshot()["slow"]["replicas"] == 2


def test_a_segment_longer_than_many_batches_is_sent_although_two_could_not_share_it() -> None:
    small = replace(SLOW, batch_audio_ms=1_000, overhead_ms=0)
    cluster = Cluster((small, 2))

    sent = cluster.submit(0, "r", {0: 30_000}, interactive=False)

    assert [order.segments for order in sent] == [(0,)]


def test_a_cancelled_request_leaves_nothing_behind() -> None:
    cluster = Cluster((FAST, 1), (SLOW, 1))
    first, *_ = cluster.submit(0, "r", dict.fromkeys(range(99), 9_000))
    cluster.tell(5_000, Tick())

    cluster.tell(5_001, Cancel("r"))
    late = cluster.tell(5_002, Lost(first.order))

    scheduler = cluster.scheduler
    assert late == []
    assert scheduler.queue_s() == scheduler.waiting_s == scheduler.backlog_s == 0


def test_the_replica_that_an_order_was_lost_with_gets_no_other() -> None:
    cluster = Cluster((SLOW, 3))
    first, *others = cluster.submit(0, "r", dict.fromkeys(range(200), 10_000))

    again = cluster.lose(100, first)
    again += cluster.runs(3_000, "slow", *names("slow", 3))
    again += cluster.answer_all(3_001, others)

    assert {order.replica for order in again} == set(names("slow", 3)) - {first.replica}


def test_a_replica_that_replaces_a_dead_one_is_used_at_once() -> None:
    cluster = Cluster((SLOW, 2))
    cluster.submit(0, "r", dict.fromkeys(range(99), 10_000))
    cluster.kill(100, "slow#0")

    sent = cluster.runs(200, "slow", "slow#1", "slow#2")

    assert {order.replica for order in sent} == {"slow#2"}


def test_a_chunk_that_takes_far_too_long_is_cut_up_among_idle_replicas() -> None:
    cluster = Cluster((FAST, 4))
    a, b, c, late = cluster.submit(0, "r", dict.fromkeys(range(16), 7_000), interactive=True)

    cluster.answer_all(100, [a, b])
    copies = cluster.answer(1_000, c)
    again = cluster.answer_all(2_000, copies)
    lost = cluster.lose(2_001, late)

    assert sorted(s for copy in copies for s in copy.segments) == sorted(late.segments)
    assert late.replica not in {copy.replica for copy in copies}
    assert again == lost == []
    assert cluster.scheduler.backlog_s == 0


def test_what_is_not_late_is_not_copied_while_a_recording_is_still_being_read() -> None:
    cluster = Cluster((FAST, 4))
    speech = dict.fromkeys(range(16), 7_000)
    a, b, c, _ = cluster.submit(0, "r", speech, coming_ms=600_000, interactive=True)

    more = cluster.answer_all(100, [a, b]) + cluster.answer(200, c)

    assert more == []


def test_a_named_loss_is_of_that_replica_whoever_was_to_have_the_chunk() -> None:
    cluster = Cluster((SLOW, 2))
    first = cluster.submit(0, "r", dict.fromkeys(range(199), 10_000))
    cluster.answer_all(50, first)
    to_b, other = (order for order in cluster.open if order.replica == "slow#1")

    unknown = cluster.lose(100, to_b, "slow#gone")
    n_after_unknown = cluster.scheduler.snapshot()["slow"]["replicas"]
    later = cluster.lose(200, other, "slow#0") + cluster.kill(200, "slow#0")

    assert {order.replica for order in unknown} == {"slow#1"}
    assert n_after_unknown == 2
    assert {order.replica for order in later} == {"slow#1"}
    assert cluster.scheduler.snapshot()["slow"]["replicas"] == 1


def test_a_pool_is_empty_until_its_only_replica_is_replaced() -> None:
    cluster = Cluster((FAST, 1), (SLOW, 1))
    sent = cluster.submit(0, "r", dict.fromkeys(range(999), 10_000))

    meanwhile = cluster.kill(100, "fast#0") + cluster.runs(200, "fast", "fast#0")
    later = cluster.runs(300, "fast", "fast#1")

    assert {order.replica for order in sent if order.pool == "fast"} == {"fast#0"}
    assert {order.pool for order in meanwhile} <= {"slow"}
    assert {order.replica for order in later if order.pool == "fast"} == {"fast#1"}


def test_the_only_pool_has_orders_for_whichever_replica_replaces_its_only_one() -> None:
    cluster = Cluster((SLOW, 1))
    sent = cluster.submit(0, "r", dict.fromkeys(range(99), 10_000))

    again = cluster.kill(100, "slow#0")

    assert {order.replica for order in sent} == {"slow#0"}
    assert again
    assert {order.replica for order in again} == {""}


@pytest.mark.parametrize(("round_trip_ms", "is_copied"), [(0.0, True), (5_000.0, False)])
def test_a_copy_that_travels_longer_than_it_saves_is_not_sent(
    round_trip_ms: float, is_copied: bool
) -> None:
    cluster = Cluster((FAST, 4), round_trip_ms=round_trip_ms)
    a, b, c, _ = cluster.submit(0, "r", dict.fromkeys(range(16), 7_000), interactive=True)

    copies: list[Order] = cluster.answer_all(100, [a, b]) + cluster.answer(1_000, c)

    assert bool(copies) is is_copied
