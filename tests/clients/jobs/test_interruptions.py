"""Requests about jobs through lost answers, cut lines and restarts of the service."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
import stamina

from clients.attempts import Unreached
from clients.http import Client
from clients.jobs.model import JobSegment
from deployments.core.errors import TimedOut, UnknownJob
from tests.clients.jobs.conftest import HTTP, TRANSPORTS
from tests.clients.jobs.service import JobService, soon
from tests.clients.servers import HANG_UP, answering

FINE = (
    202,
    {"Content-Type": "application/json"},
    '{"id": "job_1", "name": "a", "state": "queued", "created_at": 1, "files": [],'
    ' "progress": {"audio_s_done": 0}}',
)
GONE = (404, {}, '{"error": {"code": "job_not_found", "detail": ["job_1"], "message": "x"}}')


class Forgetful(httpx.BaseTransport):
    """Sends each request, and loses the answers to the first ones by a timeout."""

    def __init__(self, n_lost: int) -> None:
        self._inner, self._n_lost = httpx.HTTPTransport(), n_lost
        self.keys: list[str] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.keys.append(request.headers["idempotency-key"])
        answer = self._inner.handle_request(request)
        answer.read()
        if len(self.keys) <= self._n_lost:
            raise httpx.ReadTimeout("lost", request=request)
        return answer

    def close(self) -> None:
        self._inner.close()


@pytest.fixture
def without_pauses() -> Iterator[None]:
    with stamina.set_testing(True, attempts=4):
        yield


@pytest.mark.usefixtures("without_pauses")
def test_a_job_whose_answer_was_lost_is_made_once(service: JobService) -> None:
    transport = Forgetful(2)
    with Client(service.url, transport=transport) as client:
        job = client.jobs.submit(b"12345")
    with Client(service.url) as client:
        made = client.jobs.list().jobs

    assert [one.id for one in made] == [job.id]
    assert len(transport.keys) == 3
    assert len(set(transport.keys)) == 1


@pytest.mark.usefixtures("without_pauses")
def test_two_jobs_have_two_keys(service: JobService) -> None:
    with Client(service.url) as client:
        first, second = client.jobs.submit(b"12345"), client.jobs.submit(b"12345")

    assert first.id != second.id


@pytest.mark.usefixtures("without_pauses")
def test_a_job_that_a_lost_attempt_has_deleted_is_no_error() -> None:
    with answering(HANG_UP, GONE) as server, Client(server.url) as client:
        client.jobs.delete("job_1")

    with (
        answering(GONE) as server,
        Client(server.url) as client,
        pytest.raises(UnknownJob),
    ):
        client.jobs.delete("job_1")


@pytest.mark.parametrize("transport", HTTP)
def test_waiting_outlasts_a_restart(
    service: JobService, entered: ExitStack, transport: str
) -> None:
    jobs = entered.enter_context(TRANSPORTS[transport](service))
    job = jobs.submit(b"hold")
    service.stop()

    def come_back() -> None:
        service.start()
        service.release()

    later = threading.Timer(0.5, come_back)
    later.start()
    ended = jobs.wait(job, timeout_s=20)
    later.join()

    assert ended.state in ("queued", "processing", "completed")
    assert ended.has_ended


@pytest.mark.parametrize("transport", HTTP)
def test_events_go_on_after_a_restart_without_a_gap_and_without_a_double(
    service: JobService, entered: ExitStack, transport: str
) -> None:
    jobs = entered.enter_context(TRANSPORTS[transport](service))
    events = jobs.events(jobs.submit(b"hold"), timeout_s=20)
    seen = up_to_a_segment(events)
    service.stop()
    service.start()
    service.release()

    seen += events

    assert [event.index for event in seen if isinstance(event, JobSegment)] == [0, 1, 2]
    assert seen[-1].is_completed


def up_to_a_segment(events: Iterator[Any]) -> list[Any]:
    """The events up to the first segment."""
    seen: list[Any] = []
    for event in events:
        seen.append(event)
        if isinstance(event, JobSegment):
            break
    return seen


def test_waiting_ends_where_the_service_does_not_come_back() -> None:
    with Client("http://127.0.0.1:9", timeout_s=0.3) as client:
        with pytest.raises(Unreached, match="Nothing answers"):
            client.jobs.wait("job_1")
        with pytest.raises(TimedOut, match=r"limit of 0\.2 s\. \(Nothing answers"):
            client.jobs.wait("job_1", timeout_s=0.2)
        with pytest.raises(Unreached, match="Nothing answers"):
            next(client.jobs.events("job_1"))


def test_each_question_of_a_wait_is_asked_once() -> None:
    with answering(FINE) as server, Client(server.url) as client:
        asked = threading.Thread(target=lambda: _timed_out(client))
        asked.start()
        has_asked = soon(lambda: len(server.asked) > 1)
        asked.join()

    assert has_asked
    assert set(server.asked) == {"GET /v1/transcription-jobs/job_1"}
    assert len(set(server.ids)) == len(server.ids)


def _timed_out(client: Client) -> None:
    with pytest.raises(TimedOut):
        client.jobs.wait("job_1", timeout_s=0.5)


def test_what_is_no_job_is_an_error() -> None:
    with (
        answering((200, {}, "{}")) as server,
        Client(server.url) as client,
        pytest.raises(Exception, match="is not a job"),
    ):
        client.jobs.get("job_1")
