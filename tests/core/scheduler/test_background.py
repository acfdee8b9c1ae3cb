"""Requests of jobs go behind all others, and are never refused."""

from __future__ import annotations

from deployments.core.scheduler.events import Refuse, Submit
from deployments.core.scheduler.planning import PoolSpec
from tests.core.scheduler.play import Cluster, orders

ONE_AT_A_TIME = PoolSpec("cpu", 30_000, 10.0, 0, 2, 30_000)
SEGMENTS = dict.fromkeys(range(400), 15_000)  # 100 min of audio
LONG = dict.fromkeys(range(20), 15_000)  # five minutes: not interactive


def of_job(name: str = "job", *, again: bool = False) -> Submit:
    return Submit(name, SEGMENTS, again=again, background=True)


def served(cluster: Cluster, n_orders: int) -> list[str]:
    """Whose orders the replica answers, one after the other."""
    names = []
    for turn in range(n_orders):
        order = cluster.open[0]
        cluster.answer(3_000.0 * (turn + 1), order)
        names.append(order.request)
    return names


def test_a_job_is_not_refused_however_much_waits() -> None:
    cluster = Cluster((ONE_AT_A_TIME, 1), max_queue_s=1.0)
    cluster.scheduler.on_event(0, Submit("r", LONG))

    answers = cluster.scheduler.on_event(1, of_job())

    assert not any(isinstance(answer, Refuse) for answer in answers)


def test_a_waiting_job_refuses_no_other_request() -> None:
    cluster = Cluster((ONE_AT_A_TIME, 1), max_queue_s=60.0)
    cluster.scheduler.on_event(0, of_job())

    answers = cluster.scheduler.on_event(1, Submit("r", LONG))

    assert cluster.scheduler.queue_s(background=True) > 600
    assert not any(isinstance(answer, Refuse) for answer in answers)


def test_what_a_replica_gets_next_is_of_another_request_and_not_of_the_job() -> None:
    cluster = Cluster((ONE_AT_A_TIME, 1))
    cluster.lengths_ms["job"] = SEGMENTS
    first = cluster.tell(0, of_job())
    assert {order.request for order in first} == {"job"}
    cluster.submit(1, "r", LONG)

    names = served(cluster, 25)
    begin, end = names.index("r"), len(names) - names[::-1].index("r")

    assert begin <= len(first)  # only what the replica had already goes before
    assert set(names[begin:end]) == {"r"}
    assert end < len(names)  # the job goes on behind it


def test_two_jobs_share_the_replicas() -> None:
    cluster = Cluster((ONE_AT_A_TIME, 1))
    for name in ("one", "two"):
        cluster.lengths_ms[name] = SEGMENTS
        cluster.tell(0, of_job(name))

    assert 3 <= served(cluster, 8).count("one") <= 5


def test_an_interactive_request_goes_before_a_job_at_once() -> None:
    cluster = Cluster((ONE_AT_A_TIME, 1))
    cluster.lengths_ms["job"] = SEGMENTS
    cluster.tell(0, of_job())

    sent = cluster.submit(1, "short", {0: 5_000})

    assert [order.request for order in orders(sent)] == ["short"]
