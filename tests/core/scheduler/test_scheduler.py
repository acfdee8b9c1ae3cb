"""The scheduler with a fake clock: nothing lost, budgets kept, all pools finish together."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deployments.core.scheduler.events import (
    Cancel,
    Finished,
    GiveUp,
    Lost,
    PoolSize,
    Refuse,
    Submit,
)
from deployments.core.scheduler.scheduler import Scheduler
from tests.core.scheduler.play import FAST, SLOW, Cluster


def test_an_hour_over_two_unequal_pools_finishes_together() -> None:
    rng = random.Random(1)
    lengths_ms = {
        i: round(min(30_000, max(1_000, rng.lognormvariate(8.8, 0.7)))) for i in range(450)
    }
    cluster = Cluster((FAST, 1), (SLOW, 1))

    cluster.submit(0, "r", lengths_ms)
    ended = cluster.play()

    assert sorted(ended.answered) == list(range(450))
    slack_ms = abs(ended.free_ms["fast#0"] - ended.free_ms["slow#0"])
    assert slack_ms < 0.1 * max(ended.free_ms.values())


def test_a_short_request_uses_the_fast_pool_alone() -> None:
    cluster = Cluster((FAST, 1), (SLOW, 1))

    sent = cluster.submit(0, "r", {0: 3_000, 1: 2_500})

    assert {order.pool for order in sent} == {"fast"}


def test_a_chunk_is_never_padded_beyond_its_pools_budget() -> None:
    cluster = Cluster((FAST, 1), (SLOW, 1))

    sent = cluster.submit(0, "r", dict(enumerate(range(1_000, 30_000, 100))))

    budgets_ms = {"fast": 120_000, "slow": 60_000}
    assert sent
    assert [order for order in sent if cluster.padded_ms(order) > budgets_ms[order.pool]] == []


def test_a_long_recording_is_read_from_its_beginning() -> None:
    cluster = Cluster((SLOW, 1))

    sent = cluster.submit(0, "r", dict.fromkeys(range(200), 5_000) | {199: 30_000})

    assert max(segment for order in sent for segment in order.segments) < 100


def test_a_replica_gets_a_second_chunk_only_once_its_speed_is_known() -> None:
    cluster = Cluster((SLOW, 1))
    (order,) = cluster.submit(0, "r", dict.fromkeys(range(100), 30_000))

    later = cluster.answer(1_000, order)

    assert len(later) == 2


def test_a_segment_that_is_lost_again_and_again_is_given_up() -> None:
    cluster = Cluster((SLOW, 1))
    (first,) = cluster.submit(0, "r", {0: 5_000})

    (second,) = cluster.lose(1, first, lives=True)
    cluster.lose(2, second, lives=True)

    assert (first.attempts, second.attempts) == ((1,), (2,))
    assert cluster.given_up == [GiveUp("r", (0,))]


def test_segments_that_are_submitted_again_while_outstanding_are_not_sent_twice() -> None:
    """A router that saw the dispatcher restart cannot know which of its orders are open."""
    cluster = Cluster((SLOW, 1))
    (order,) = cluster.submit(0, "r", {0: 5_000})

    again = cluster.submit(1, "r", {0: 5_000})
    (retry,) = cluster.lose(2, order, lives=True)

    assert again == []
    assert retry.attempts == (2,)


def test_a_report_that_comes_twice_changes_nothing() -> None:
    cluster = Cluster((SLOW, 1))
    (order,) = cluster.submit(0, "r", {0: 5_000})
    cluster.answer(1, order)

    again = cluster.tell(2, Finished(order.order, 5_000, 50.0, order.replica))
    died = cluster.tell(3, Lost(order.order))

    assert again == died == []


def test_a_request_is_refused_when_the_queue_is_longer_than_promised() -> None:
    cluster = Cluster((SLOW, 1), max_queue_s=10.0)
    cluster.submit(0, "long", dict.fromkeys(range(200), 30_000))  # 60 s at speed 100

    (action,) = cluster.scheduler.on_event(1, Submit("late", {0: 1_000}, interactive=False))

    assert isinstance(action, Refuse)
    assert 40.0 < action.retry_after_s < 60.0


def test_a_short_request_waits_for_others_like_it_alone() -> None:
    cluster = Cluster((SLOW, 1), max_queue_s=10.0)
    cluster.submit(0, "long", dict.fromkeys(range(200), 30_000))  # 60 s at speed 100

    actions = [
        action
        for number in range(100)  # a second at speed 100 for each two
        for action in cluster.scheduler.on_event(1, Submit(f"short {number}", {0: 50_000}))
    ]

    refused = [action for action in actions if isinstance(action, Refuse)]
    assert 60 < len(refused) < 90
    assert refused[0].request > "short 10"
    assert all(1.0 <= action.retry_after_s < 5.0 for action in refused)


def test_each_class_of_requests_has_a_promise_of_its_own() -> None:
    scheduler = Scheduler([SLOW], max_queue_s=600.0, max_interactive_queue_s=5.0)
    scheduler.on_event(0, PoolSize(SLOW.name, ("a",)))
    for number in range(20):
        scheduler.on_event(1, Submit(f"short {number}", {0: 50_000}))

    short = scheduler.on_event(1, Submit("short", {0: 50_000}))
    long = scheduler.on_event(1, Submit("long", dict.fromkeys(range(9), 30_000)))

    assert [type(action) for action in short] == [Refuse]
    assert Refuse not in {type(action) for action in long}


def test_what_is_announced_counts_in_the_queue_until_it_is_submitted() -> None:
    scheduler = Cluster((FAST, 1), max_queue_s=60).scheduler

    scheduler.on_event(0, Submit("long", {0: 1000}, coming_ms=36_000_000))
    refused = scheduler.on_event(0, Submit("late", {0: 1000}, interactive=False))
    scheduler.on_event(0, Submit("long", {1: 1000}, again=True))  # nothing more to come
    taken = scheduler.on_event(0, Submit("later", {0: 1000}, interactive=False))

    assert [type(action) for action in refused] == [Refuse]
    assert Refuse not in {type(action) for action in taken}


def test_a_request_without_open_orders_is_kept_while_more_is_to_come() -> None:
    cluster = Cluster((FAST, 1))
    (order,) = cluster.submit(0, "long", {0: 1000}, coming_ms=9000)

    cluster.answer(1, order)
    waiting_s = cluster.scheduler.queue_s()
    (further,) = cluster.submit(2, "long", {1: 2000})
    cluster.answer(3, further)

    assert waiting_s > 0
    assert further.segments == (1,)
    assert cluster.scheduler.queue_s() == 0


def test_a_cancelled_request_makes_room() -> None:
    cluster = Cluster((SLOW, 1))
    cluster.submit(0, "gone", dict.fromkeys(range(50), 30_000))
    waiting = cluster.submit(1, "next", {0: 30_000}, interactive=False)

    sent = cluster.tell(2, Cancel("gone"))

    assert waiting == []
    assert [order.request for order in sent] == ["next"]


def test_where_no_pool_runs_one_that_can_start_gets_a_chunk_to_start_it() -> None:
    cluster = Cluster((FAST, 0), (replace(SLOW, can_start=True), 0))

    sent = cluster.submit(0, "r", dict.fromkeys(range(9), 30_000))

    assert {(order.pool, order.replica) for order in sent} == {("slow", "")}
    assert 1 <= len(sent) <= 2


def test_what_no_pool_can_take_waits_for_the_first_replica() -> None:
    cluster = Cluster((FAST, 0))

    waiting = cluster.submit(0, "r", {0: 5_000})
    sent = cluster.runs(1, "fast", "fast#0")

    assert waiting == []
    assert [order.segments for order in sent] == [(0,)]


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_every_segment_is_answered_once_or_given_up_whatever_is_lost(data: st.DataObject) -> None:
    n_segments = data.draw(st.integers(1, 40))
    cluster = Cluster((FAST, 1), (SLOW, 1))
    cluster.submit(0, "r", {i: data.draw(st.integers(100, 30_000)) for i in range(n_segments)})

    ended = cluster.play(kills=lambda order: data.draw(st.booleans()))

    assert sorted(ended.answered + ended.given_up) == list(range(n_segments))


def test_where_nothing_runs_only_the_cheapest_pool_is_made_to_start() -> None:
    dear = replace(FAST, price_per_hour=5, can_start=True)
    cheap = replace(SLOW, price_per_hour=1, can_start=True)
    cluster = Cluster((dear, 0), (cheap, 0))

    sent = cluster.submit(0, "a", dict.fromkeys(range(50), 20_000))

    assert {order.pool for order in sent} == {"slow"}


def test_the_backlog_is_what_waits_and_what_is_outstanding() -> None:
    cluster = Cluster((SLOW, 1))

    first, *_ = cluster.submit(0, "a", dict.fromkeys(range(50), 20_000))
    before_s = cluster.scheduler.backlog_s
    cluster.answer(1, first)

    assert before_s == 50 * 20
    assert cluster.scheduler.backlog_s == before_s - cluster.padded_ms(first) / 1000


def test_every_order_names_a_replica_and_each_replica_gets_one() -> None:
    cluster = Cluster((FAST, 2))

    sent = cluster.submit(0, "r", dict.fromkeys(range(300), 10_000))

    assert sorted(order.replica for order in sent) == ["fast#0", "fast#1"]


def test_a_slower_replica_of_a_pool_gets_less() -> None:
    cluster = Cluster((FAST, 2))
    cluster.submit(0, "r", dict.fromkeys(range(3_000), 10_000))

    ended = cluster.play(times={"fast#1": 3.0})

    computed_ms, free_ms = ended.padded_ms, ended.free_ms
    assert sum(computed_ms.values()) == 30_000_000
    assert computed_ms["fast#0"] / computed_ms["fast#1"] > 2.5
    assert free_ms["fast#0"] / free_ms["fast#1"] == pytest.approx(1, abs=0.02)
