"""Jobs over a Ray handle of the deployment of jobs: `Transcriber.jobs`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, Unpack

from clients.attempts import Unreached
from clients.jobs.asked import (
    Chosen,
    JobAsked,
    JobName,
    Sources,
    id_of,
    new_job,
    request_from,
    urls_of,
)
from clients.jobs.following import PASSING, Follower, Patience
from clients.jobs.model import Job, JobEvent, JobPage, job_from, page_from
from clients.request import opened, read_upload
from deployments.core.errors import BadRequest
from deployments.core.formats import FORMATS, GRANULARITIES, Format
from deployments.core.jobs.model import STATES, Query
from deployments.core.subtitles import lrc
from deployments.core.types import Transcript

OPERATOR = None  # the owner that sees the jobs of all keys


class HandleJobs:
    """`clients.jobs.http.Jobs` without HTTP in between. `result_of` waits for a call's answer."""

    def __init__(
        self,
        handle: Any,
        result_of: Callable[[Any], Any],
        plain_errors: Callable[[], AbstractContextManager[None]],
        timeout_s: float,
    ) -> None:
        self._handle, self._result, self._plain_errors = handle, result_of, plain_errors
        self._timeout_s = timeout_s

    def submit(self, sources: Sources, **asked: Unpack[JobAsked]) -> Job:
        """As `Jobs.submit`, without another attempt. The recording has to fit into memory."""
        request = request_from(**asked)
        urls = urls_of(sources)
        if urls is not None:
            call = self._handle.submit_here.remote(new_job(request, "", urls))
        else:
            with opened(sources) as (name, _):  # type: ignore[arg-type] # it is no list of URLs
                upload = read_upload(sources)  # type: ignore[arg-type]
            call = self._handle.submit_here.remote(new_job(request, name, upload), upload)
        body, is_new = self._result(call)
        return replace(job_from(body), is_new=is_new)

    def get(self, job: JobName) -> Job:
        """As `Jobs.get`."""
        return job_from(self._result(self._handle.get.remote(id_of(job), OPERATOR)))

    def wait(
        self,
        job: JobName,
        *,
        timeout_s: float | None = None,
        tell: Callable[[Job], None] | None = None,
    ) -> Job:
        """As `Jobs.wait`."""
        patience = Patience(timeout_s, self._timeout_s)
        while True:
            try:
                found = self.get(job)
            except PASSING as error:
                pause_s = patience.pause_s(error)
            else:
                if tell is not None:
                    tell(found)
                if found.has_ended:
                    return found
                pause_s = patience.pause_s()
            time.sleep(pause_s)

    def events(
        self, job: JobName, *, file: int = 0, after: int = 0, timeout_s: float | None = None
    ) -> Iterator[JobEvent]:
        """As `Jobs.events`."""
        patience, follower = Patience(timeout_s, self._timeout_s), Follower(after)
        while not follower.has_ended:
            try:
                yield from self._stream(job, file, follower, patience)
                if not follower.has_ended:
                    raise Unreached("The stream of events was cut.")
            except PASSING as error:
                time.sleep(patience.pause_s(error))

    def _stream(
        self, job: JobName, file: int, follower: Follower, patience: Patience
    ) -> Iterator[JobEvent]:
        """One stream of events, up to the job's end or the death of the deployment."""
        with self._plain_errors():
            items = self._handle.options(stream=True).watch.remote(
                id_of(job), file, OPERATOR, follower.after
            )
            try:
                for item in items:
                    patience.heard()
                    event = follower.of_body(item)
                    if isinstance(event, Job) and event.has_ended:
                        follower.has_ended = True
                    if event is not None:
                        yield event
            finally:
                items.cancel()

    def result(self, job: JobName, *, file: int = 0, edited: bool = False) -> Transcript:
        """As `Jobs.result`."""
        call = self._handle.result.remote(id_of(job), file, OPERATOR, edited)
        transcript: Transcript = self._result(call)
        return transcript

    def export(
        self, job: JobName, format_name: str, *, file: int = 0, edited: bool = False
    ) -> bytes:
        """As `Jobs.export`, without `docx`, which only the HTTP front writes."""
        writers = {name: _writer(form) for name, form in FORMATS.items()} | {"lrc": lrc}
        if format_name not in writers:
            raise BadRequest(f"format can be {', '.join(writers)}.", "format")
        return writers[format_name](self.result(job, file=file, edited=edited)).encode()

    def list(self, **chosen: Unpack[Chosen]) -> JobPage:
        """As `Jobs.list`, for the jobs of all keys."""
        asked = chosen.get("states", ())
        query = Query(
            limit=chosen.get("limit", 20),
            after=chosen.get("after"),
            states=tuple(state for state in STATES if state in asked),
            created_after_s=chosen.get("created_after_s"),
            created_before_s=chosen.get("created_before_s"),
        )
        return page_from(self._result(self._handle.page.remote(OPERATOR, query)))

    def cancel(self, job: JobName) -> Job:
        """As `Jobs.cancel`."""
        return job_from(self._result(self._handle.cancel.remote(id_of(job), OPERATOR)))

    def rename(self, job: JobName, name: str) -> Job:
        """As `Jobs.rename`."""
        return job_from(self._result(self._handle.rename.remote(id_of(job), OPERATOR, name)))

    def delete(self, job: JobName) -> None:
        """As `Jobs.delete`."""
        self._result(self._handle.delete.remote(id_of(job), OPERATOR))


def _writer(form: Format) -> Callable[[Transcript], str]:
    return lambda transcript: form.render(transcript, GRANULARITIES)
