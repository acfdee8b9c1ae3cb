"""DESIGN, A worked example: three replicas, six segments, one death, event by event."""

from __future__ import annotations

from deployments.core.scheduler.events import Cancel, Finished, Lost, Order, PoolSize, Submit, Tick
from deployments.core.scheduler.planning import PoolSpec
from deployments.core.scheduler.scheduler import Scheduler, orders

# A chunk holds at most 20 s of padded audio. A replica takes 100 ms for a chunk, and 10 ms more
# for each second of padded audio in it.
T4 = PoolSpec("T4", 20_000, speed=100.0, overhead_ms=100, max_ongoing=8, start_ms=30_000)
SIX_SEGMENTS_MS = {0: 10_000, 1: 10_000, 2: 10_000, 3: 10_000, 4: 10_000, 5: 10_000}


def test_a_death_costs_a_recording_no_segment() -> None:
    scheduler = Scheduler([T4], max_queue_s=600.0)

    # Serve runs three replicas. Nothing is to be done yet.
    assert scheduler.on_event(0, PoolSize("T4", ("a", "b", "c"))) == []

    # A router submits six segments. Each replica gets a chunk of two, and all would end together.
    first, second, third = orders(scheduler.on_event(0, Submit("talk", SIX_SEGMENTS_MS)))
    assert [(o.replica, o.segments) for o in (first, second, third)] == [
        ("a", (0, 1)),
        ("b", (2, 3)),
        ("c", (4, 5)),
    ]

    # Replica b dies after 100 ms, so its two segments wait again. a and c have a chunk each, and
    # nobody knows yet how fast they are. So nothing is sent behind these chunks.
    assert scheduler.on_event(100, Lost(second.order, "b")) == []

    # Serve still lists b. The scheduler knows better for 10 s, and sends nothing there.
    assert scheduler.on_event(200, PoolSize("T4", ("a", "b", "c"))) == []
    assert scheduler.snapshot()["T4"]["replicas"] == 2

    # a answers, and c a moment later. One segment for each makes both end together. For these
    # segments this is the second attempt.
    (on_a,) = orders(scheduler.on_event(300, finished(first, seconds=20)))
    (on_c,) = orders(scheduler.on_event(310, finished(third, seconds=20)))
    assert (on_a.replica, on_a.segments, on_a.attempts) == ("a", (2,), (2,))
    assert (on_c.replica, on_c.segments, on_c.attempts) == ("c", (3,), (2,))

    # a answers segment 2 as expected, after 200 ms. c hangs. At 800 ms segment 3 is 290 ms past
    # its expected end, which is late. But a copy would take 200 ms, and c may answer by then.
    assert scheduler.on_event(500, finished(on_a, seconds=10)) == []
    assert scheduler.on_event(800, Tick()) == []

    # At 1,000 ms the copy will probably be first. a computes it, and the first answer counts.
    (copy,) = orders(scheduler.on_event(1_000, Tick()))
    assert (copy.replica, copy.segments) == ("a", (3,))
    assert scheduler.on_event(1_200, finished(copy, seconds=10)) == []

    # The router has all six answers and cancels what may still run on c. Nothing is left.
    assert scheduler.on_event(1_210, Cancel("talk")) == []
    assert scheduler.on_event(1_220, finished(on_c, seconds=10)) == []
    assert scheduler.backlog_s == 0


def finished(order: Order, *, seconds: int) -> Finished:
    """The report of a chunk with so much padded audio, computed as fast as expected."""
    return Finished(order.order, seconds * 1000, 100 + 10 * seconds, order.replica)
