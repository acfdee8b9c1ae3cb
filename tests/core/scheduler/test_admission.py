"""Which requests are refused, and when they should come back: each class has its own promise."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from deployments.core.scheduler.events import Cancel, Refuse, Submit
from deployments.core.scheduler.planning import PoolSpec
from tests.core.scheduler.play import Cluster

CPU = PoolSpec("cpu", 30_000, 18.0, 20, 8, 30_000, can_start=False)  # 18 s of audio a second
HOUR_MS = 3_600_000
SHORT = {0: 5_000}


def refusals(cluster: Cluster, requests: Sequence[Submit]) -> list[Refuse]:
    """The requests that come one after the other and are refused."""
    answers = [action for r in requests for action in cluster.scheduler.on_event(1, r)]
    return [answer for answer in answers if isinstance(answer, Refuse)]


def recordings(n: int, hours: float) -> list[Submit]:
    """Recordings of which the VAD has found the first segment."""
    return [Submit(f"r{i}", {0: 20_000}, coming_ms=round(hours * HOUR_MS)) for i in range(n)]


LONG = {
    "one of 3 h": recordings(1, 3.0),
    "one of 12 h": recordings(1, 12.0),
    "nine of 20 min": recordings(9, 1 / 3),
    "one whose segments are all known": [Submit("r0", dict.fromkeys(range(360), 30_000))],
    "one that its client calls a batch": [
        Submit("r0", dict.fromkeys(range(2_000), 5_400), interactive=False)
    ],
}


@pytest.mark.parametrize("long", LONG.values(), ids=LONG)
def test_short_requests_beside_long_recordings_are_not_refused(long: list[Submit]) -> None:
    cluster = Cluster((CPU, 1), max_queue_s=500.0)
    refusals(cluster, long)

    refused = refusals(cluster, [Submit(f"s{i}", SHORT) for i in range(200)])

    assert cluster.scheduler.queue_s() > 500
    assert refused == []


def test_short_requests_are_refused_when_too_many_of_their_kind_wait() -> None:
    cluster = Cluster((CPU, 1), max_queue_s=600.0, max_interactive_queue_s=20.0)

    refused = refusals(cluster, [Submit(f"s{i}", SHORT) for i in range(200)])

    assert 100 < len(refused) < 140  # 18 s of audio a second: about 72 requests in 20 s
    assert {refuse.retry_after_s for refuse in refused} == {1.0}


def test_retry_after_is_the_time_until_the_class_has_its_promise_again() -> None:
    cluster = Cluster((CPU, 1), max_queue_s=600.0, max_interactive_queue_s=1e9)
    refusals(cluster, [Submit(f"s{i}", SHORT) for i in range(3_600)])  # 1,000 s of work
    refusals(cluster, recordings(1, 3.0))

    (long,) = refusals(cluster, recordings(1, 0.1))
    short = refusals(cluster, [Submit("short", SHORT)])

    assert 350 < long.retry_after_s < 650
    assert short == []


def test_a_recording_waits_for_short_requests_too() -> None:
    cluster = Cluster((CPU, 1), max_queue_s=100.0, max_interactive_queue_s=1e9)
    refusals(cluster, [Submit(f"s{i}", SHORT) for i in range(400)])

    refused = refusals(cluster, recordings(1, 3.0))

    assert [refuse.request for refuse in refused] == ["r0"]


def test_without_a_promise_of_their_own_short_requests_have_that_of_all() -> None:
    cluster = Cluster((CPU, 1), max_queue_s=10.0)

    refused = refusals(cluster, [Submit(f"s{i}", SHORT) for i in range(100)])

    assert 0 < len(refused) < 100


def test_a_cancelled_short_request_no_longer_stands_before_others() -> None:
    cluster = Cluster((CPU, 1))
    cluster.submit(0, "first", SHORT)
    cluster.submit(0, "gone", {0: 59_000})
    before_s = cluster.scheduler.queue_s(interactive=True)

    cluster.tell(1, Cancel("gone"))

    assert cluster.scheduler.queue_s(interactive=True) < before_s
