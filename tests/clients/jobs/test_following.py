"""How long a client waits for a job, and which events of a broken stream it takes."""

from __future__ import annotations

import json

import pytest

from clients.attempts import Unreached
from clients.jobs.following import Follower, Patience
from clients.jobs.model import Job, JobSegment
from deployments.core.errors import AsrError, Overloaded, TimedOut

AWAY = Unreached("Nothing answers.")


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s

    def pauses(self, patience: Patience, errors: list[AsrError | None]) -> list[float]:
        """The pauses after these answers, each of which is waited for."""
        taken = []
        for error in errors:
            taken.append(patience.pause_s(error))
            self.now_s += taken[-1]
        return taken


def test_pauses_grow_to_a_bound() -> None:
    clock = Clock()
    patience = Patience(None, 600.0, clock)

    pauses = clock.pauses(patience, [None] * 12)

    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[-1]) == (0.2, 3.0)


def test_a_service_may_be_away_until_the_calls_own_timeout() -> None:
    clock = Clock()
    patience = Patience(1800.0, 600.0, clock)
    clock.now_s = 1799.0

    last_s = patience.pause_s(AWAY)
    clock.now_s = 1800.0

    assert last_s == 0.2
    with pytest.raises(TimedOut, match=r"job took longer than its limit of 1800 s.*Nothing"):
        patience.pause_s(AWAY)


def test_without_a_timeout_a_job_may_last_but_the_service_may_not_be_silent_for_long() -> None:
    clock = Clock()
    patience = Patience(None, 600.0, clock)
    clock.now_s = 5000.0
    patience.pause_s()
    clock.now_s = 5599.0
    patience.pause_s(AWAY)
    clock.now_s = 5600.0

    with pytest.raises(Unreached, match="Nothing answers"):
        patience.pause_s(AWAY)


@pytest.mark.parametrize(("asked_s", "pause_s"), [(7.0, 7.0), (3600.0, 60.0)])
def test_the_wait_that_the_service_asks_for_is_taken_within_a_bound(
    asked_s: float, pause_s: float
) -> None:
    assert Patience(None, 600.0, Clock()).pause_s(Overloaded(asked_s)) == pause_s


def test_an_answer_may_not_outlast_the_timeout() -> None:
    clock = Clock()
    patience = Patience(100.0, 600.0, clock)
    clock.now_s = 90.0

    left_s = patience.answer_s()
    clock.now_s = 101.0

    assert left_s == 10.0
    with pytest.raises(TimedOut):
        patience.heard()


def job(state: str = "processing") -> dict[str, object]:
    progress = {"audio_s_done": 0.0, "audio_s_total": None}
    shown = {"id": "job_1", "name": "a", "state": state, "created_at": 0.0, "files": []}
    return {"type": "job", "job": shown | {"progress": progress}}


def segment(index: int) -> dict[str, object]:
    return {"type": "segment", "index": index, "start": 0.1, "end": 1.0, "text": "好"}


def lines(*bodies: tuple[int, dict[str, object]]) -> list[str]:
    """A stream of these events with their ids, with what else a stream has."""
    sent = [(f"id: {number}", f"data: {json.dumps(body)}", "") for number, body in bodies]
    return [": still here", *(line for event in sent for line in event)]


def read(follower: Follower, sent: list[str]) -> list[Job | JobSegment]:
    return [event for line in sent if (event := follower.of_line(line)) is not None]


def test_a_second_stream_goes_on_behind_the_last_segment() -> None:
    follower = Follower(0)

    first = read(follower, lines((0, job()), (1, segment(0)), (2, segment(1))))
    after = follower.after
    second = read(follower, [*lines((2, job()), (3, segment(2)), (3, job("completed")))])

    assert [type(event).__name__ for event in first] == ["Job", "JobSegment", "JobSegment"]
    assert (after, follower.after) == (2, 3)
    assert [type(event).__name__ for event in second] == ["JobSegment", "Job"]  # no state twice


def test_only_the_word_done_ends_a_stream() -> None:
    follower = Follower(0)
    read(follower, lines((0, job("completed"))))
    before = follower.has_ended

    read(follower, ["data: [DONE]"])

    assert (before, follower.has_ended) == (False, True)


def test_an_event_of_a_newer_service_is_passed_over() -> None:
    assert read(Follower(0), lines((0, {"type": "weather"}))) == []


@pytest.mark.parametrize("line", ["data: {", "data: 1", 'data: {"type": "job"}', "data: {}"])
def test_what_is_no_event_is_an_error(line: str) -> None:
    with pytest.raises(AsrError, match="cannot be read"):
        read(Follower(0), [line])
