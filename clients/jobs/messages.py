"""The requests about jobs that the HTTP clients send, and what they read from the answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar
from urllib.parse import quote
from uuid import uuid4

import httpx

from clients.jobs.asked import Chosen, JobAsked, JobName, Sources, id_of, request_from, urls_of
from clients.jobs.model import Job, JobPage, job_from, page_from
from clients.messages import (
    REQUEST_ID,
    Calls,
    Fields,
    Json,
    MakeRequest,
    Parts,
    foreign,
    option_fields,
    recording_parts,
)
from clients.request import Source

T = TypeVar("T")

PATH = "/v1/transcription-jobs"
CONNECT_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class JobCalls:
    """The requests that both clients share."""

    calls: Calls

    @contextmanager
    def submission(self, sources: Sources, asked: JobAsked) -> Iterator[MakeRequest]:
        """A function that makes the request for a new job, while its file is open."""
        job = request_from(**asked)
        fields: dict[str, str | list[str] | None] = {
            **option_fields(job.options),
            "name": job.name or None,
            "priority": str(job.priority) if job.priority else None,
            "expires_after_s": None if job.expires_after_s is None else str(job.expires_after_s),
            "metadata": None if job.metadata == "{}" else job.metadata,
            "webhook": job.webhook,
        }
        sent: Fields = {name: value for name, value in fields.items() if value}
        with _parts(sources) as parts:
            yield lambda number: self.calls.upload(
                PATH, {REQUEST_ID: number, "Idempotency-Key": job.key}, sent, parts
            )

    def one(
        self,
        job: JobName,
        method: str = "GET",
        path: str = "",
        *,
        params: dict[str, str] | None = None,
        json: Json | None = None,
    ) -> MakeRequest:
        """A function that makes the request about this job."""
        url = f"{PATH}/{quote(id_of(job), safe='')}{path}"
        return lambda number: self.calls.http.build_request(
            method, url, params=params, json=json, headers={REQUEST_ID: number}
        )

    def page(self, chosen: Chosen) -> MakeRequest:
        params = {
            "state": ",".join(chosen.get("states", ())),
            "limit": str(chosen.get("limit", 20)),
            "after": chosen.get("after"),
            "created_after": chosen.get("created_after_s"),
            "created_before": chosen.get("created_before_s"),
        }
        sent = {name: str(value) for name, value in params.items() if value not in (None, "")}
        return lambda number: self.calls.http.build_request(
            "GET", PATH, params=sent, headers={REQUEST_ID: number}
        )

    def state(self, job: JobName, *, answer_s: float) -> httpx.Request:
        """One question about the job, whose answer may take so long."""
        request = self.one(job)(uuid4().hex)
        request.extensions["timeout"] = _limits(answer_s)
        return request

    def events(self, job: JobName, *, file: int, after: int, answer_s: float) -> httpx.Request:
        """The stream of events behind the first `after` segments."""
        request = self.one(job, path="/events", params={"file": str(file)})(uuid4().hex)
        request.headers["Last-Event-ID"] = str(after)
        request.extensions["timeout"] = _limits(answer_s)
        return request


def result_params(name: str, *, file: int, edited: bool) -> dict[str, str]:
    return {"format": name, "file": str(file)} | ({"edited": "true"} if edited else {})


def job_of(response: httpx.Response) -> Job:
    return _read(response, job_from, "a job")


def submitted(response: httpx.Response) -> Job:
    return replace(job_of(response), is_new=response.status_code == httpx.codes.ACCEPTED)


def page_of(response: httpx.Response) -> JobPage:
    return _read(response, page_from, "a list of jobs")


def _read(response: httpx.Response, read: Callable[[Any], T], what: str) -> T:
    try:
        return read(response.json())
    except (KeyError, TypeError, ValueError) as error:
        raise foreign(response, what, error) from error


@contextmanager
def _parts(sources: Sources) -> Iterator[Parts]:
    """The parts of the form with the recording, or with the URLs."""
    urls = urls_of(sources)
    if urls is not None:
        yield [("url", (None, one.url)) for one in urls]
        return
    source: Source = sources  # type: ignore[assignment] # `urls_of` has told
    with recording_parts(source) as parts:
        yield parts


def _limits(answer_s: float) -> dict[str, float]:
    limits = httpx.Timeout(answer_s, connect=min(answer_s, CONNECT_TIMEOUT_S))
    return {name: seconds for name, seconds in limits.as_dict().items() if seconds is not None}
