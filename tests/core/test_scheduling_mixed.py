"""Unlike pools: who gets the first chunks, what is learned, and what becomes of a lost chunk."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from benchmarks.dispatch_fleets import in_ms, segments_s
from deployments.core.events import Action, Finished, Lost, Order, PoolSize, Submit
from deployments.core.planning import PoolSpec
from deployments.core.scheduling import Scheduler

LARGE = PoolSpec("large", 300_000, speed=2500.0, overhead_ms=30, max_ongoing=8, start_ms=30_000)
SMALL = PoolSpec("small", 60_000, speed=250.0, overhead_ms=50, max_ongoing=8, start_ms=30_000)


def _scheduler(*sized: tuple[PoolSpec, int]) -> Scheduler:
    scheduler = Scheduler([spec for spec, _ in sized], max_queue_s=1e9)
    for spec, n in sized:
        names = tuple(f"{spec.name}#{i}" for i in range(n))
        scheduler.on_event(0, PoolSize(spec.name, n, names))
    return scheduler


def _orders(actions: list[Action]) -> list[Order]:
    return [action for action in actions if isinstance(action, Order)]


def _done(order: Order, lengths_ms: dict[int, int], *, times: float = 1.0) -> Finished:
    """As of a replica that takes so many times as long as its pool's prior says."""
    spec = {"large": LARGE, "small": SMALL}[order.pool]
    padded_ms = len(order.segments) * max(lengths_ms[s] for s in order.segments)
    busy_ms = times * (spec.overhead_ms + padded_ms / spec.speed)
    return Finished(order.order, padded_ms, busy_ms, order.replica)


def test_of_a_long_recording_every_replica_gets_a_chunk_at_once() -> None:
    lengths_ms = dict(enumerate(in_ms(segments_s(3600, random.Random(0)))))
    fast = replace(LARGE, speed=8000.0, batch_audio_ms=600_000)
    slow = replace(SMALL, speed=175.0)  # too slow for a second full chunk
    scheduler = _scheduler((fast, 1), (slow, 8))

    orders = _orders(scheduler.on_event(0, Submit("r", lengths_ms)))

    assert len({order.replica for order in orders}) == 9


def test_a_replica_that_nobody_knows_gets_one_chunk_until_it_has_answered() -> None:
    lengths_ms = dict.fromkeys(range(200), 7_000)  # three chunks for each
    scheduler = _scheduler((LARGE, 2))
    first = _orders(scheduler.on_event(0, Submit("r", lengths_ms)))

    later = [scheduler.on_event(150, _done(order, lengths_ms)) for order in first]

    assert [order.replica for order in first] == ["large#0", "large#1"]
    assert all(_orders(actions) for actions in later)


def test_a_chunk_that_is_lost_is_cut_for_the_replicas_that_are_left() -> None:
    lengths_ms = dict.fromkeys(range(150), 7_000)
    scheduler = _scheduler((LARGE, 1), (SMALL, 4))
    sent = _orders(scheduler.on_event(0, Submit("r", lengths_ms)))
    lost = next(order for order in sent if order.pool == "large")
    for order in sent:
        if order is not lost:
            sent += _orders(scheduler.on_event(100, _done(order, lengths_ms)))

    again = _orders(scheduler.on_event(101, Lost(lost.order)))
    settled: list[Order] = []
    while again:
        settled.append(again.pop(0))
        again += _orders(scheduler.on_event(200, _done(settled[-1], lengths_ms)))

    assert set(lost.segments) <= {s for order in settled for s in order.segments}
    assert max(len(order.segments) for order in settled) * 7_000 <= SMALL.batch_audio_ms
    attempts = {s: n for o in settled for s, n in zip(o.segments, o.attempts, strict=True)}
    assert {n for s, n in attempts.items() if s in lost.segments} == {2}
    assert {n for s, n in attempts.items() if s not in lost.segments} <= {1}


def test_what_a_living_replica_could_not_read_goes_to_another() -> None:
    """It answers fast, so that it is the first to be free."""
    scheduler = _scheduler((SMALL, 3))
    sent = _orders(scheduler.on_event(0, Submit("r", dict.fromkeys(range(200), 7_000))))

    again = _orders(scheduler.on_event(5, Lost(sent[0].order, replica_lives=True)))

    (retry,) = [order for order in again if order.segments == sent[0].segments]
    assert set(retry.attempts) == {2}
    assert retry.replica != sent[0].replica


def test_with_a_replica_all_that_it_had_goes_elsewhere_at_once() -> None:
    """A chunk that is on its way to it still would wait until it is replaced."""
    lengths_ms = dict.fromkeys(range(2_000), 7_000)
    scheduler = _scheduler((LARGE, 1), (SMALL, 1))
    first = _orders(scheduler.on_event(0, Submit("r", lengths_ms)))
    known = [_done(order, lengths_ms) for order in first]
    sent = [order for event in known for order in _orders(scheduler.on_event(50, event))]
    had = [order for order in sent if order.pool == "large"]
    open_s = scheduler.backlog_s

    scheduler.on_event(100, Lost(had[0].order, replica="large#0"))
    outstanding = scheduler.snapshot()["large"]["outstanding_chunks"]
    is_known = scheduler.knows(had[1].order)
    late = scheduler.on_event(101, Lost(had[1].order))

    assert len(had) == 2
    assert outstanding == 0
    assert is_known  # else the router would take it for a dispatcher that began anew
    assert late == []
    assert scheduler.backlog_s == open_s


@pytest.mark.parametrize("n_batches", [1, 5])
def test_of_a_replica_with_little_memory_is_learned_what_a_chunk_takes(n_batches: int) -> None:
    """It computes every chunk in several batches."""
    scheduler = _scheduler((LARGE, 1))
    lengths_ms = dict.fromkeys(range(10_000), 7_500)
    orders = _orders(scheduler.on_event(0, Submit("r", lengths_ms)))
    for _ in range(50):
        order = orders.pop(0)
        padded_ms = 7_500 * len(order.segments)
        busy_ms = n_batches * LARGE.overhead_ms + padded_ms / LARGE.speed
        done = Finished(order.order, padded_ms, busy_ms, order.replica, n_batches=n_batches)
        orders += _orders(scheduler.on_event(100, done))

    rate = scheduler.snapshot()["large"]["full_speed"]

    full_ms = n_batches * LARGE.overhead_ms + LARGE.batch_audio_ms / LARGE.speed
    assert rate == pytest.approx(LARGE.batch_audio_ms / full_ms, rel=0.02)


def test_of_small_chunks_that_share_batches_is_learned_what_a_batch_takes() -> None:
    scheduler = _scheduler((LARGE, 1))
    n_batches, padded_ms = 4, 100_000
    busy_ms = n_batches * (LARGE.overhead_ms + padded_ms / LARGE.speed)
    for i in range(100):
        (order,) = _orders(scheduler.on_event(i, Submit(f"r{i}", {0: 10_000})))
        share = 0.1  # of ten requests
        whole = (round(n_batches * padded_ms * share), busy_ms * share)
        done = Finished(order.order, *whole, order.replica, share, n_batches)
        scheduler.on_event(i, done)

    learned = scheduler.snapshot()["large"]

    took_ms = learned["overhead_ms"] + padded_ms / learned["speed"]
    assert took_ms == pytest.approx(busy_ms / n_batches, rel=0.02)
