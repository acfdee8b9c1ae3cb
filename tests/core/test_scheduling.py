"""The scheduler with a fake clock: nothing lost, budgets kept, all pools finish together."""

from __future__ import annotations

import heapq
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deployments.core.events import (
    Cancel,
    Finished,
    GiveUp,
    Lost,
    Order,
    PoolSize,
    Refuse,
    Submit,
)
from deployments.core.planning import PoolSpec
from deployments.core.scheduling import Scheduler

FAST = PoolSpec("fast", 120_000, speed=400.0, overhead_ms=30, max_ongoing=8, start_ms=30_000)
SLOW = PoolSpec("slow", 60_000, speed=100.0, overhead_ms=50, max_ongoing=8, start_ms=30_000)


def _scheduler(*pools: PoolSpec, max_queue_s: float = 600.0) -> Scheduler:
    scheduler = Scheduler(pools, max_queue_s=max_queue_s)
    for pool in pools:
        scheduler.on_event(0, PoolSize(pool.name, 1))
    return scheduler


def _run(
    scheduler: Scheduler,
    pools: dict[str, PoolSpec],
    orders: list[Order],
    lengths_ms: dict[int, int],
) -> tuple[dict[str, float], list[int]]:
    """Plays one request to its end: when each pool finished, and the segments as answered."""
    free_ms = dict.fromkeys(pools, 0.0)
    events: list[tuple[float, int, Order, int, float]] = []
    answered: list[int] = []

    def start(now_ms: float, order: Order) -> None:
        pool = pools[order.pool]
        padded_ms = len(order.segments) * max(lengths_ms[s] for s in order.segments)
        busy_ms = pool.overhead_ms + padded_ms / pool.speed
        free_ms[order.pool] = max(now_ms, free_ms[order.pool]) + busy_ms
        heapq.heappush(events, (free_ms[order.pool], order.order, order, padded_ms, busy_ms))

    for order in orders:
        start(0.0, order)
    while events:
        now_ms, _, order, padded_ms, busy_ms = heapq.heappop(events)
        answered += order.segments
        for action in scheduler.on_event(now_ms, Finished(order.order, padded_ms, busy_ms)):
            assert isinstance(action, Order)
            start(now_ms, action)
    return free_ms, answered


def test_an_hour_over_two_unequal_pools_finishes_together() -> None:
    rng = random.Random(1)
    lengths_ms = {
        i: round(min(30_000, max(1_000, rng.lognormvariate(8.8, 0.7)))) for i in range(450)
    }
    pools = {"fast": FAST, "slow": SLOW}
    scheduler = _scheduler(FAST, SLOW)

    orders = scheduler.on_event(0, Submit("r", lengths_ms))
    finished_ms, answered = _run(scheduler, pools, orders, lengths_ms)  # type: ignore[arg-type]

    assert sorted(answered) == list(range(450))
    slack_ms = abs(finished_ms["fast"] - finished_ms["slow"])
    assert slack_ms < 0.1 * max(finished_ms.values())


def test_a_short_request_uses_the_fast_pool_alone() -> None:
    scheduler = _scheduler(FAST, SLOW)

    orders = scheduler.on_event(0, Submit("r", {0: 3_000, 1: 2_500}))

    assert {order.pool for order in orders if isinstance(order, Order)} == {"fast"}


def test_a_chunk_is_never_padded_beyond_its_pools_budget() -> None:
    scheduler = _scheduler(FAST, SLOW)
    lengths_ms = dict(enumerate(range(1_000, 30_000, 100)))

    orders = scheduler.on_event(0, Submit("r", lengths_ms))

    budgets = {"fast": 120_000, "slow": 60_000}
    assert orders
    for order in orders:
        assert isinstance(order, Order)
        longest_ms = max(lengths_ms[s] for s in order.segments)
        assert len(order.segments) * longest_ms <= budgets[order.pool]


def test_a_long_recording_is_read_from_its_beginning() -> None:
    scheduler = _scheduler(SLOW)
    lengths_ms = dict.fromkeys(range(200), 5_000) | {199: 30_000}

    orders = scheduler.on_event(0, Submit("r", lengths_ms))

    sent = [segment for order in orders if isinstance(order, Order) for segment in order.segments]
    assert max(sent) < 100


def test_little_is_sent_ahead() -> None:
    scheduler = _scheduler(SLOW)

    first = scheduler.on_event(0, Submit("r", dict.fromkeys(range(100), 30_000)))
    (order,) = first  # nobody knows yet how long a second would wait
    assert isinstance(order, Order)
    padded_ms = 30_000 * len(order.segments)
    known = Finished(order.order, padded_ms, SLOW.overhead_ms + padded_ms / SLOW.speed)

    assert len(scheduler.on_event(1_000, known)) == 2


def test_a_lost_chunk_goes_again_once_and_is_then_given_up() -> None:
    scheduler = _scheduler(SLOW)
    (first,) = scheduler.on_event(0, Submit("r", {0: 5_000}))
    assert isinstance(first, Order)

    (second,) = scheduler.on_event(1, Lost(first.order))
    assert isinstance(second, Order)
    given_up = scheduler.on_event(2, Lost(second.order))

    assert (set(first.attempts), set(second.attempts)) == ({1}, {2})
    assert given_up == [GiveUp("r", (0,))]


def test_segments_that_are_submitted_again_while_placed_are_not_placed_twice() -> None:
    """A router that saw the dispatcher restart cannot know which orders are on their way."""
    scheduler = _scheduler(SLOW)
    (order,) = scheduler.on_event(0, Submit("r", {0: 5_000}))
    assert isinstance(order, Order)

    again = scheduler.on_event(1, Submit("r", {0: 5_000}))
    (retry,) = scheduler.on_event(2, Lost(order.order))

    assert again == []
    assert isinstance(retry, Order)
    assert set(retry.attempts) == {2}


def test_a_report_that_comes_twice_changes_nothing() -> None:
    scheduler = _scheduler(SLOW)
    (order,) = scheduler.on_event(0, Submit("r", {0: 5_000}))
    assert isinstance(order, Order)
    scheduler.on_event(1, Finished(order.order, 5_000, 50.0))

    again = scheduler.on_event(2, Finished(order.order, 5_000, 50.0))
    died = scheduler.on_event(3, Lost(order.order))

    assert again == died == []


def test_a_request_is_refused_when_the_queue_is_longer_than_promised() -> None:
    scheduler = _scheduler(SLOW, max_queue_s=10.0)
    scheduler.on_event(0, Submit("long", dict.fromkeys(range(200), 30_000)))  # 60 s at speed 100

    (action,) = scheduler.on_event(1, Submit("late", {0: 1_000}))

    assert isinstance(action, Refuse)
    assert 40.0 < action.retry_after_s < 60.0


def test_what_is_announced_counts_in_the_queue_until_it_is_submitted() -> None:
    scheduler = _scheduler(FAST, max_queue_s=60)

    scheduler.on_event(0, Submit("long", {0: 1000}, coming_ms=36_000_000))
    refused = scheduler.on_event(0, Submit("late", {0: 1000}))
    scheduler.on_event(0, Submit("long", {1: 1000}, again=True))  # nothing more to come
    taken = scheduler.on_event(0, Submit("later", {0: 1000}))

    assert [type(action) for action in refused] == [Refuse]
    assert not any(isinstance(action, Refuse) for action in taken)


def test_a_request_with_nothing_placed_is_kept_while_more_is_to_come() -> None:
    scheduler = _scheduler(FAST)
    (order,) = scheduler.on_event(0, Submit("long", {0: 1000}, coming_ms=9000))
    assert isinstance(order, Order)

    scheduler.on_event(1, Finished(order.order, 1000, 32.5))
    waiting_s = scheduler.queue_s()
    (further,) = scheduler.on_event(2, Submit("long", {1: 2000}, again=True))
    assert isinstance(further, Order)
    scheduler.on_event(3, Finished(further.order, 2000, 35.0))

    assert waiting_s > 0
    assert further.segments == (1,)
    assert scheduler.queue_s() == 0


def test_a_cancelled_request_frees_its_places() -> None:
    scheduler = _scheduler(SLOW)
    scheduler.on_event(0, Submit("gone", dict.fromkeys(range(50), 30_000)))
    waiting = scheduler.on_event(1, Submit("next", {0: 30_000}, interactive=False))

    orders = scheduler.on_event(2, Cancel("gone"))

    assert waiting == []
    assert [o.request for o in orders if isinstance(o, Order)] == ["next"]


def test_where_no_pool_runs_one_that_can_start_gets_a_chunk_to_start_it() -> None:
    asleep = replace(SLOW, can_start=True)
    scheduler = Scheduler([FAST, asleep], max_queue_s=600.0)

    orders = scheduler.on_event(0, Submit("r", dict.fromkeys(range(9), 30_000)))

    assert {order.pool for order in orders if isinstance(order, Order)} == {"slow"}
    assert 1 <= len(orders) <= 2


def test_what_no_pool_can_take_waits_for_the_first_replica() -> None:
    scheduler = Scheduler([FAST], max_queue_s=600.0)

    waiting = scheduler.on_event(0, Submit("r", {0: 5_000}))
    orders = scheduler.on_event(1, PoolSize("fast", 1))

    assert waiting == []
    assert [order.segments for order in orders if isinstance(order, Order)] == [(0,)]


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_every_segment_is_answered_once_or_given_up_whatever_dies(data: st.DataObject) -> None:
    n_segments = data.draw(st.integers(1, 40))
    lengths_ms = {i: data.draw(st.integers(100, 30_000)) for i in range(n_segments)}
    scheduler = _scheduler(FAST, SLOW)
    open_orders = list(scheduler.on_event(0, Submit("r", lengths_ms)))
    settled: list[int] = []

    now_ms = 0.0
    while open_orders:
        now_ms += 1
        action = open_orders.pop(data.draw(st.integers(0, len(open_orders) - 1)))
        if isinstance(action, GiveUp):
            settled += action.segments
            continue
        assert isinstance(action, Order)
        event = Lost(action.order) if data.draw(st.booleans()) else Finished(action.order, 1, 1.0)
        settled += action.segments if isinstance(event, Finished) else ()
        open_orders += scheduler.on_event(now_ms, event)

    assert sorted(settled) == list(range(n_segments))


def test_where_nothing_runs_only_the_cheapest_pool_is_made_to_start() -> None:
    pools = [
        replace(FAST, price_per_hour=5, can_start=True),
        replace(SLOW, price_per_hour=1, can_start=True),
    ]
    scheduler = Scheduler(pools, max_queue_s=600)

    actions = scheduler.on_event(0, Submit("a", dict.fromkeys(range(50), 20_000)))

    assert {action.pool for action in actions if isinstance(action, Order)} == {"slow"}


def test_the_backlog_is_what_waits_and_what_is_under_way() -> None:
    scheduler = _scheduler(SLOW)

    orders = scheduler.on_event(0, Submit("a", dict.fromkeys(range(50), 20_000)))
    before_s = scheduler.backlog_s
    first = orders[0]
    assert isinstance(first, Order)
    padded_ms = 20_000 * len(first.segments)
    scheduler.on_event(1, Finished(first.order, padded_ms, padded_ms / SLOW.speed))

    assert before_s == 50 * 20
    assert scheduler.backlog_s == before_s - padded_ms / 1000


def test_where_replicas_have_names_every_order_says_one_and_each_gets_its_part() -> None:
    scheduler = Scheduler([FAST], max_queue_s=600.0)
    scheduler.on_event(0, PoolSize("fast", 2, ("fast#a", "fast#b")))

    orders = scheduler.on_event(0, Submit("r", dict.fromkeys(range(300), 10_000)))

    named = [order.replica for order in orders if isinstance(order, Order)]
    assert sorted(named) == ["fast#a", "fast#b"]


def test_a_slower_replica_of_a_pool_gets_less() -> None:
    scheduler = Scheduler([FAST], max_queue_s=1e9)
    scheduler.on_event(0, PoolSize("fast", 2, ("fast#a", "fast#b")))
    sent_ms = {"fast#a": 0, "fast#b": 0}
    slower = {"fast#a": 1.0, "fast#b": 3.0}
    orders = scheduler.on_event(0, Submit("r", dict.fromkeys(range(3_000), 10_000)))

    free_ms = dict.fromkeys(slower, 0.0)
    events: list[tuple[float, int, Order, float]] = []
    now_ms = 0.0
    while orders or events:
        for order in orders:
            assert isinstance(order, Order)
            padded_ms = 10_000 * len(order.segments)
            busy_ms = slower[order.replica] * (30 + padded_ms / 400)
            free_ms[order.replica] = max(now_ms, free_ms[order.replica]) + busy_ms
            sent_ms[order.replica] += padded_ms
            heapq.heappush(events, (free_ms[order.replica], order.order, order, busy_ms))
        now_ms, _, ended, busy_ms = heapq.heappop(events)
        padded_ms = 10_000 * len(ended.segments)
        orders = scheduler.on_event(
            now_ms, Finished(ended.order, padded_ms, busy_ms, ended.replica)
        )

    assert sum(sent_ms.values()) == 30_000_000
    assert sent_ms["fast#a"] / sent_ms["fast#b"] > 2.5
    assert free_ms["fast#a"] / free_ms["fast#b"] == pytest.approx(1, abs=0.02)
