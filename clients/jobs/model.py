"""Jobs as a client sees them: frozen values, read from the JSON of the service.

Times that end in `_s` are seconds since 1970; the times of segments are milliseconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from deployments.core.jobs.model import COMPLETED, ENDED, State
from deployments.core.types import Word


@dataclass(frozen=True, slots=True)
class JobProgress:
    """Audio that is recognised. The whole is None until the recording has been read."""

    audio_s_done: float
    audio_s_total: float | None = None


@dataclass(frozen=True, slots=True)
class JobError:
    """Why a file failed: a code of the HTTP API, such as `invalid_audio`, and a sentence."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class JobFile:
    """One recording of a job."""

    index: int
    name: str
    state: State
    progress: JobProgress
    url: str | None = None
    n_bytes: int | None = None
    duration_s: float | None = None
    error: JobError | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """A transcription job as it was when the service was asked."""

    id: str
    name: str
    state: State
    progress: JobProgress
    files: tuple[JobFile, ...]
    created_s: float
    started_s: float | None = None
    finished_s: float | None = None
    expires_s: float | None = None
    expected_end_s: float | None = None
    queue_position: int | None = None  # files before the first one that waits
    priority: int = 0
    webhook: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    is_new: bool = False  # from `submit` alone: the call made the job, rather than found it

    @property
    def has_ended(self) -> bool:
        """Whether it is completed, failed or canceled."""
        return self.state in ENDED

    @property
    def is_completed(self) -> bool:
        """Whether every file has a transcript."""
        return self.state == COMPLETED


@dataclass(frozen=True, slots=True)
class JobPage:
    """Jobs from the newest on. `next_cursor` is the `after` of the next page; None: no more."""

    jobs: tuple[Job, ...]
    next_cursor: str | None = None


@dataclass(frozen=True, slots=True)
class JobSegment:
    """A segment whose text is final. The text of each word includes its punctuation mark."""

    index: int
    start_ms: int
    end_ms: int
    text: str
    words: tuple[Word, ...] = ()
    error: str | None = None


JobEvent: TypeAlias = Job | JobSegment


def job_from(body: Mapping[str, Any]) -> Job:
    """Raises KeyError, TypeError and ValueError for what is no job. Unknown keys are ignored."""
    return Job(
        id=body["id"],
        name=body["name"],
        state=body["state"],
        progress=_progress(body["progress"]),
        files=tuple(_file(one) for one in body["files"]),
        created_s=body["created_at"],
        started_s=body.get("started_at"),
        finished_s=body.get("finished_at"),
        expires_s=body.get("expires_at"),
        expected_end_s=body.get("expected_end_at"),
        queue_position=body.get("queue_position"),
        priority=body.get("priority", 0),
        webhook=body.get("webhook"),
        metadata=body.get("metadata") or {},
    )


def page_from(body: Mapping[str, Any]) -> JobPage:
    """Raises as `job_from`."""
    return JobPage(tuple(job_from(one) for one in body["data"]), body.get("next_cursor"))


def event_from(body: Mapping[str, Any]) -> JobEvent | None:
    """The event that a body stands for; None for a type of a newer service. Raises as above."""
    match body["type"]:
        case "job":
            return job_from(body["job"])
        case "segment":
            return JobSegment(
                index=body["index"],
                start_ms=_ms(body["start"]),
                end_ms=_ms(body["end"]),
                text=body["text"],
                words=tuple(
                    Word(one["word"], _ms(one["start"]), _ms(one["end"]))
                    for one in body.get("words", ())
                ),
                error=body.get("error"),
            )
    return None


def _file(body: Mapping[str, Any]) -> JobFile:
    error = body.get("error")
    return JobFile(
        index=body["index"],
        name=body["name"],
        state=body["state"],
        progress=_progress(body["progress"]),
        url=body.get("url"),
        n_bytes=body.get("bytes"),
        duration_s=body.get("duration"),
        error=None if error is None else JobError(error["code"], error["message"]),
    )


def _progress(body: Mapping[str, Any]) -> JobProgress:
    return JobProgress(body["audio_s_done"], body.get("audio_s_total"))


def _ms(at_s: float) -> int:
    return round(at_s * 1000)
