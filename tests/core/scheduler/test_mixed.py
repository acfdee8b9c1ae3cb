"""Unlike pools: who gets the first chunks, what is learned, and what becomes of a lost chunk."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from benchmarks.dispatch.fleets import in_ms, segments_s
from deployments.core.scheduler.events import Finished, Lost
from deployments.core.scheduler.planning import PoolSpec
from tests.core.scheduler.play import Cluster

LARGE = PoolSpec("large", 300_000, speed=2500.0, overhead_ms=30, max_ongoing=8, start_ms=30_000)
SMALL = PoolSpec("small", 60_000, speed=250.0, overhead_ms=50, max_ongoing=8, start_ms=30_000)


def test_of_a_long_recording_every_replica_gets_a_chunk_at_once() -> None:
    fast = replace(LARGE, speed=8000.0, batch_audio_ms=600_000)
    slow = replace(SMALL, speed=175.0)  # too slow for a second full chunk
    cluster = Cluster((fast, 1), (slow, 8))

    sent = cluster.submit(0, "r", dict(enumerate(in_ms(segments_s(3600, random.Random(0))))))

    assert len({order.replica for order in sent}) == 9


def test_a_replica_that_nobody_knows_gets_one_chunk_until_it_has_answered() -> None:
    cluster = Cluster((LARGE, 2))
    first, second = cluster.submit(0, "r", dict.fromkeys(range(200), 7_000))  # 3 chunks for each

    after_first, after_second = cluster.answer(150, first), cluster.answer(150, second)

    assert (first.replica, second.replica) == ("large#0", "large#1")
    assert after_first
    assert after_second


def test_a_chunk_that_is_lost_is_cut_for_the_replicas_that_are_left() -> None:
    cluster = Cluster((LARGE, 1), (SMALL, 4))
    sent = cluster.submit(0, "r", dict.fromkeys(range(150), 7_000))
    (lost,) = (order for order in sent if order.pool == "large")
    cluster.open.remove(lost)
    cluster.play()
    cluster.open.append(lost)

    again = cluster.kill(10_000, "large#0")
    while_retried = list(cluster.open)
    ended = cluster.play(10_000)

    assert set(lost.segments) <= set(ended.answered)
    assert max(map(cluster.padded_ms, again)) <= SMALL.batch_audio_ms
    attempts = {s: n for o in while_retried for s, n in zip(o.segments, o.attempts, strict=True)}
    assert {n for s, n in attempts.items() if s in lost.segments} == {2}


def test_what_a_living_replica_could_not_read_goes_to_another() -> None:
    """It answers fast, so it is the first to be free."""
    cluster = Cluster((SMALL, 3))
    first, *_ = cluster.submit(0, "r", dict.fromkeys(range(200), 7_000))

    again = cluster.lose(5, first, lives=True)

    (retry,) = (order for order in again if order.segments == first.segments)
    assert set(retry.attempts) == {2}
    assert retry.replica != first.replica


def test_with_a_replica_all_that_it_had_goes_elsewhere_at_once() -> None:
    """Its second chunk may still be on its way; its loss is reported only when it is replaced."""
    cluster = Cluster((LARGE, 1), (SMALL, 1))
    cluster.answer_all(50, cluster.submit(0, "r", dict.fromkeys(range(2_000), 7_000)))
    first, second = (order for order in cluster.open if order.pool == "large")
    open_s = cluster.scheduler.backlog_s

    cluster.lose(100, first, "large#0")
    outstanding = cluster.scheduler.snapshot()["large"]["outstanding_chunks"]
    is_known = cluster.scheduler.knows(second.order)
    late = cluster.tell(101, Lost(second.order))

    assert outstanding == 0
    assert is_known  # else the router would think that the dispatcher has been replaced
    assert late == []
    assert cluster.scheduler.backlog_s == open_s


@pytest.mark.parametrize("n_batches", [1, 5])
def test_of_a_replica_with_little_memory_is_learned_what_a_chunk_takes(n_batches: int) -> None:
    """It computes every chunk in several batches."""
    own = replace(LARGE, overhead_ms=n_batches * LARGE.overhead_ms)
    cluster = Cluster((LARGE, 1))
    cluster.specs["large"] = own  # its true times
    cluster.submit(0, "r", dict.fromkeys(range(2_000), 7_500))

    cluster.play()

    full_ms = own.overhead_ms + LARGE.batch_audio_ms / LARGE.speed
    rate = cluster.scheduler.snapshot()["large"]["full_speed"]
    assert rate == pytest.approx(LARGE.batch_audio_ms / full_ms, rel=0.02)


def test_of_small_chunks_that_share_batches_is_learned_what_a_batch_takes() -> None:
    n_batches, padded_ms, share = 4, 100_000, 0.1  # of ten requests
    busy_ms = n_batches * (LARGE.overhead_ms + padded_ms / LARGE.speed)
    part = (round(n_batches * padded_ms * share), busy_ms * share)
    cluster = Cluster((LARGE, 1))

    sent = [cluster.submit(i, f"r{i}", {0: 10_000}) for i in range(8)]
    numbers = [order.order for new in sent for order in new]
    for number in numbers:
        cluster.tell(1_000, Finished(number, *part, "large#0", share, n_batches))
    learned = cluster.scheduler.snapshot()["large"]

    took_ms = learned["overhead_ms"] + padded_ms / learned["speed"]
    assert took_ms == pytest.approx(busy_ms / n_batches, rel=0.02)
