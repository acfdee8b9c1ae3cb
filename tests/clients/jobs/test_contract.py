"""The contract of jobs that every client keeps: the same methods, values and errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import srt as srt_parser

from clients.jobs.model import Job, JobSegment
from clients.request import Url
from deployments.core.errors import (
    AsrError,
    BadRequest,
    Conflict,
    InvalidAudio,
    TimedOut,
    UnknownJob,
    UploadTooLarge,
    UrlRefused,
)
from tests.clients.jobs.conftest import TRANSPORTS
from tests.clients.jobs.service import JobService
from tests.core.transcripts import PARAFORMER

CALLS = [Url("s3://calls/a.mp3"), Url("s3://calls/b.mp3?")]


@pytest.fixture(params=TRANSPORTS)
def jobs(request: pytest.FixtureRequest, shared: JobService) -> Iterator[Any]:
    with TRANSPORTS[request.param](shared) as found:
        yield found


def test_a_recording_becomes_a_job_whose_result_is_a_transcript(jobs: Any) -> None:
    job = jobs.submit(b"12345", name="weekly")
    ended = jobs.wait(job, timeout_s=30)

    assert (job.name, ended.state, ended.is_completed) == ("weekly", "completed", True)
    assert jobs.result(job) == replace(PARAFORMER, duration_ms=PARAFORMER.duration_ms + 5)


def test_a_job_tells_its_files_and_its_progress(jobs: Any) -> None:
    ended = jobs.wait(jobs.submit(b"12345", priority=7, metadata={"team": "客服"}), timeout_s=30)

    (file,) = ended.files
    assert (file.index, file.n_bytes, file.duration_s, file.error) == (0, 5, 8.5, None)
    assert ended.progress.audio_s_done == ended.progress.audio_s_total == 8.5
    assert (ended.priority, ended.metadata) == (7, {"team": "客服"})
    assert ended.created_s <= ended.started_s <= ended.finished_s


def test_a_file_may_be_given_by_its_path(jobs: Any, tmp_path: Path) -> None:
    path = tmp_path / "录音.wav"
    path.write_bytes(b"1234567")

    job = jobs.submit(path)

    assert (job.name, job.files[0].name, job.files[0].n_bytes) == ("录音.wav", "录音.wav", 7)


def test_several_urls_make_one_job(jobs: Any) -> None:
    job = jobs.submit([Url("s3://calls/a.mp3"), Url("s3://calls/b.mp3")])

    assert [file.name for file in job.files] == ["a.mp3", "b.mp3"]
    assert [file.url for file in job.files] == ["s3://calls/a.mp3", "s3://calls/b.mp3"]


@pytest.mark.parametrize(
    ("sources", "asked", "kind"),
    [
        (b"", {}, InvalidAudio),
        (b"x" * 10_001, {}, UploadTooLarge),
        (Url("s3://secrets/a.mp3"), {}, UrlRefused),
        (Url("https://example.com/a.mp3"), {}, UrlRefused),
        ([Url(f"s3://calls/{i}") for i in range(4)], {}, BadRequest),
        ([], {}, BadRequest),
        (["a.wav"], {}, BadRequest),
        (b"12345", {"priority": 101}, BadRequest),
        (b"12345", {"metadata": {"a": {1}}}, BadRequest),
        (b"12345", {"hotwords": "集群"}, BadRequest),
        (b"12345", {"webhook": "https://example.com"}, BadRequest),
    ],
    ids=str,
)
def test_what_cannot_be_a_job_is_refused(
    jobs: Any, sources: Any, asked: dict[str, Any], kind: type[AsrError]
) -> None:
    with pytest.raises(kind):
        jobs.submit(sources, **asked)


def test_an_unknown_option_is_a_type_error(jobs: Any) -> None:
    with pytest.raises(TypeError, match="temperature"):
        jobs.submit(b"12345", temperature=0.5)


def test_the_same_key_makes_one_job(jobs: Any, request: pytest.FixtureRequest) -> None:
    key = request.node.name
    first = jobs.submit(b"12345", idempotency_key=key)
    second = jobs.submit(b"12345", idempotency_key=key)

    with pytest.raises(Conflict):
        jobs.submit(b"other", idempotency_key=key)
    assert first.id == second.id
    assert jobs.wait(first, timeout_s=30).is_completed  # its recording is still there


def test_events_are_the_segments_and_the_states_of_the_job(jobs: Any) -> None:
    events = list(jobs.events(jobs.submit(b"12345"), timeout_s=30))

    segments = [event for event in events if isinstance(event, JobSegment)]
    states = [event.state for event in events if isinstance(event, Job)]
    expected = [(s.index, s.start_ms, s.end_ms, s.text) for s in PARAFORMER.segments]
    assert [(s.index, s.start_ms, s.end_ms, s.text) for s in segments] == expected
    assert segments[0].words[5].text == "好，"
    assert states[-1] == "completed"
    assert isinstance(events[-1], Job)


def test_events_begin_behind_the_segments_that_the_client_has(jobs: Any) -> None:
    job = jobs.wait(jobs.submit(b"12345"), timeout_s=30)

    events = list(jobs.events(job, after=2))

    assert [event.index for event in events if isinstance(event, JobSegment)] == [2]


def test_waiting_tells_each_state_and_ends_at_its_timeout(jobs: Any, shared: JobService) -> None:
    told: list[Job] = []
    job = jobs.submit(b"fail")
    failed = jobs.wait(job, timeout_s=30, tell=told.append)

    assert (failed.state, failed.has_ended, failed.is_completed) == ("failed", True, False)
    assert failed.files[0].error.code == "invalid_audio"
    assert told[-1] == failed
    with pytest.raises(Conflict, match="No sound"):
        jobs.result(job)


def test_a_job_that_lasts_longer_than_the_timeout_is_timed_out(service: JobService) -> None:
    with TRANSPORTS["ray handle"](service) as jobs:
        job = jobs.submit(b"hold")

        with pytest.raises(TimedOut, match="job took longer"):
            jobs.wait(job, timeout_s=0.05)
        with pytest.raises(Conflict, match="not finished"):
            jobs.result(job)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_canceled_job_stays_canceled(
    service: JobService, entered: ExitStack, transport: str
) -> None:
    jobs = entered.enter_context(TRANSPORTS[transport](service))
    job = jobs.submit(b"hold")

    canceled = jobs.cancel(job)

    assert (canceled.state, jobs.cancel(job.id).state, jobs.get(job).state) == ("canceled",) * 3


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_jobs_are_listed_page_by_page_from_the_newest_on(
    service: JobService, entered: ExitStack, transport: str
) -> None:
    jobs = entered.enter_context(TRANSPORTS[transport](service))
    names = ["a", "b", "c"]
    made = [jobs.wait(jobs.submit(b"12345", name=name), timeout_s=30) for name in names]

    first = jobs.list(limit=2)
    second = jobs.list(limit=2, after=first.next_cursor, states=["completed", "failed"])

    assert [job.name for job in (*first.jobs, *second.jobs)] == ["c", "b", "a"]
    assert second.next_cursor is None
    assert jobs.list(states=["queued"]).jobs == ()
    assert len(jobs.list(created_after_s=made[0].created_s).jobs) == 2
    assert len(jobs.list(created_before_s=made[0].created_s + 0.000_001).jobs) == 1


def test_a_job_is_renamed_and_deleted(jobs: Any) -> None:
    job = jobs.wait(jobs.submit(b"12345"), timeout_s=30)

    renamed = jobs.rename(job, "weekly")
    jobs.delete(job)

    assert renamed.name == "weekly"
    with pytest.raises(UnknownJob, match=job.id):
        jobs.get(job)
    with pytest.raises(UnknownJob):
        jobs.delete(job)


@pytest.mark.parametrize("name", ["srt", "vtt", "text", "json", "lrc"])
def test_a_result_is_exported_in_every_format(jobs: Any, name: str) -> None:
    job = jobs.wait(jobs.submit(b"12345"), timeout_s=30)

    assert "今天天气很好" in jobs.export(job, name).decode()


def test_exported_subtitles_can_be_parsed_and_an_unknown_format_is_refused(jobs: Any) -> None:
    job = jobs.wait(jobs.submit(b"12345"), timeout_s=30)

    assert len(list(srt_parser.parse(jobs.export(job, "srt").decode()))) == 2
    with pytest.raises(BadRequest, match="format can be"):
        jobs.export(job, "pdf")


@pytest.mark.parametrize("name", ["get", "wait", "result", "cancel", "delete"])
def test_an_unknown_job_is_an_error_at_once(jobs: Any, name: str) -> None:
    with pytest.raises(UnknownJob, match="job_none"):
        getattr(jobs, name)("job_none")


def test_the_events_of_an_unknown_job_or_file_are_an_error(jobs: Any) -> None:
    job = jobs.submit(b"12345")

    with pytest.raises(UnknownJob):
        next(jobs.events("job_none"))
    with pytest.raises(UnknownJob):
        next(jobs.events(job, file=1))
