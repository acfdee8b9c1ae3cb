"""Jobs over HTTP: `Client.jobs`, and `AsyncClient.jobs` for asyncio.

The classes only send and wait. The requests are in `messages.py`, and `following.py` says how long
a call follows a job.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, closing
from dataclasses import dataclass
from typing import Protocol, Unpack

import httpx

from clients.attempts import Unreached
from clients.jobs.asked import Chosen, JobAsked, JobName, Sources
from clients.jobs.following import PASSING, Follower, Patience
from clients.jobs.messages import JobCalls, job_of, page_of, result_params, submitted
from clients.jobs.model import Job, JobEvent, JobPage
from clients.messages import Calls, MakeRequest, transcript_of
from deployments.core.errors import UnknownJob
from deployments.core.types import Transcript


class Answer(Protocol):
    """The whole answer to a request, after as many attempts as it needs."""

    def __call__(self, make: MakeRequest, *, has_one_effect: bool) -> httpx.Response: ...


class Send(Protocol):
    """One attempt at a request."""

    def __call__(self, request: httpx.Request, *, is_stream: bool) -> httpx.Response: ...


class AsyncAnswer(Protocol):
    """`Answer` for asyncio."""

    async def __call__(self, make: MakeRequest, *, has_one_effect: bool) -> httpx.Response: ...


class AsyncSend(Protocol):
    """`Send` for asyncio."""

    async def __call__(self, request: httpx.Request, *, is_stream: bool) -> httpx.Response: ...


def _cut() -> Unreached:
    return Unreached("The stream of events was cut.")


@dataclass(frozen=True, slots=True)
class _Deletion:
    """Makes the requests that delete a job, and counts them."""

    make: MakeRequest
    sent: list[str]

    def __call__(self, number: str) -> httpx.Request:
        self.sent.append(number)
        return self.make(number)

    def forgive(self, error: UnknownJob) -> None:
        """Raises the error, unless an attempt whose answer was lost may have deleted the job."""
        if len(self.sent) < 2:
            raise error


class Jobs:
    """The transcription jobs of a service. Raises the errors of `core/errors.py`."""

    def __init__(self, calls: Calls, answer: Answer, send: Send) -> None:
        self._calls, self._answer, self._send = JobCalls(calls), answer, send

    def submit(self, sources: Sources, **asked: Unpack[JobAsked]) -> Job:
        """The new job of a recording, of a URL, or of a list of URLs. Raises OSError for a file.

        The job is made once, however often the request has to be sent.
        """
        with self._calls.submission(sources, asked) as make:
            return submitted(self._answer(make, has_one_effect=True))

    def get(self, job: JobName) -> Job:
        """The job as it is now. Raises UnknownJob."""
        return job_of(self._answer(self._calls.one(job), has_one_effect=True))

    def wait(
        self,
        job: JobName,
        *,
        timeout_s: float | None = None,
        tell: Callable[[Job], None] | None = None,
    ) -> Job:
        """The job once it has ended, however. `tell` gets it at each look before.

        The service may be away meanwhile. Raises TimedOut after `timeout_s`. Without it, raises
        the last error once the service has been away for the client's own `timeout_s`.
        """
        patience = self._patience(timeout_s)
        while True:
            try:
                asked = self._calls.state(job, answer_s=patience.answer_s())
                found = job_of(self._send(asked, is_stream=False))
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
        """The job whenever it changes, and each segment of the file when its text is final.

        Begins behind the first `after` segments. The last event is the job that has ended. A cut
        line is taken up again where it broke. Raises as `wait`.
        """
        patience, follower = self._patience(timeout_s), Follower(after)
        while not follower.has_ended:
            try:
                asked = self._calls.events(
                    job, file=file, after=follower.after, answer_s=patience.answer_s()
                )
                response = self._send(asked, is_stream=True)
                with closing(response), self._calls.calls.plain_errors():
                    for line in response.iter_lines():
                        patience.heard()
                        if (event := follower.of_line(line)) is not None:
                            yield event
                if not follower.has_ended:
                    raise _cut()
            except PASSING as error:
                time.sleep(patience.pause_s(error))

    def result(self, job: JobName, *, file: int = 0, edited: bool = False) -> Transcript:
        """The transcript of a file. Raises Conflict unless the file is completed."""
        params = result_params("detailed_json", file=file, edited=edited)
        make = self._calls.one(job, path="/result", params=params)
        return transcript_of(self._answer(make, has_one_effect=True))

    def export(
        self, job: JobName, format_name: str, *, file: int = 0, edited: bool = False
    ) -> bytes:
        """The transcript of a file in any format of the service, such as `srt` or `docx`."""
        params = result_params(format_name, file=file, edited=edited)
        make = self._calls.one(job, path="/result", params=params)
        return self._answer(make, has_one_effect=True).content

    def list(self, **chosen: Unpack[Chosen]) -> JobPage:
        """A page of jobs, from the newest on."""
        return page_of(self._answer(self._calls.page(chosen), has_one_effect=True))

    def cancel(self, job: JobName) -> Job:
        """The job, canceled. One that had ended stays as it was."""
        return job_of(self._answer(self._calls.one(job, "POST", "/cancel"), has_one_effect=True))

    def rename(self, job: JobName, name: str) -> Job:
        """The job with another name."""
        make = self._calls.one(job, "PATCH", json={"name": name})
        return job_of(self._answer(make, has_one_effect=True))

    def delete(self, job: JobName) -> None:
        """Removes the job with its recordings and results."""
        deletion = _Deletion(self._calls.one(job, "DELETE"), [])
        try:
            self._answer(deletion, has_one_effect=True)
        except UnknownJob as error:
            deletion.forgive(error)

    def _patience(self, timeout_s: float | None) -> Patience:
        return Patience(timeout_s, self._calls.calls.timeout_s)


class AsyncJobs:
    """`Jobs` for asyncio."""

    def __init__(self, calls: Calls, answer: AsyncAnswer, send: AsyncSend) -> None:
        self._calls, self._answer, self._send = JobCalls(calls), answer, send

    async def submit(self, sources: Sources, **asked: Unpack[JobAsked]) -> Job:
        """As `Jobs.submit`."""
        with self._calls.submission(sources, asked) as make:
            return submitted(await self._answer(make, has_one_effect=True))

    async def get(self, job: JobName) -> Job:
        """As `Jobs.get`."""
        return job_of(await self._answer(self._calls.one(job), has_one_effect=True))

    async def wait(
        self,
        job: JobName,
        *,
        timeout_s: float | None = None,
        tell: Callable[[Job], None] | None = None,
    ) -> Job:
        """As `Jobs.wait`."""
        patience = self._patience(timeout_s)
        while True:
            try:
                asked = self._calls.state(job, answer_s=patience.answer_s())
                found = job_of(await self._send(asked, is_stream=False))
            except PASSING as error:
                pause_s = patience.pause_s(error)
            else:
                if tell is not None:
                    tell(found)
                if found.has_ended:
                    return found
                pause_s = patience.pause_s()
            await asyncio.sleep(pause_s)

    async def events(
        self, job: JobName, *, file: int = 0, after: int = 0, timeout_s: float | None = None
    ) -> AsyncGenerator[JobEvent]:
        """As `Jobs.events`."""
        patience, follower = self._patience(timeout_s), Follower(after)
        while not follower.has_ended:
            try:
                asked = self._calls.events(
                    job, file=file, after=follower.after, answer_s=patience.answer_s()
                )
                response = await self._send(asked, is_stream=True)
                async with aclosing(response):
                    with self._calls.calls.plain_errors():
                        async for line in response.aiter_lines():
                            patience.heard()
                            if (event := follower.of_line(line)) is not None:
                                yield event
                if not follower.has_ended:
                    raise _cut()
            except PASSING as error:
                await asyncio.sleep(patience.pause_s(error))

    async def result(self, job: JobName, *, file: int = 0, edited: bool = False) -> Transcript:
        """As `Jobs.result`."""
        params = result_params("detailed_json", file=file, edited=edited)
        make = self._calls.one(job, path="/result", params=params)
        return transcript_of(await self._answer(make, has_one_effect=True))

    async def export(
        self, job: JobName, format_name: str, *, file: int = 0, edited: bool = False
    ) -> bytes:
        """As `Jobs.export`."""
        params = result_params(format_name, file=file, edited=edited)
        make = self._calls.one(job, path="/result", params=params)
        return (await self._answer(make, has_one_effect=True)).content

    async def list(self, **chosen: Unpack[Chosen]) -> JobPage:
        """As `Jobs.list`."""
        return page_of(await self._answer(self._calls.page(chosen), has_one_effect=True))

    async def cancel(self, job: JobName) -> Job:
        """As `Jobs.cancel`."""
        make = self._calls.one(job, "POST", "/cancel")
        return job_of(await self._answer(make, has_one_effect=True))

    async def rename(self, job: JobName, name: str) -> Job:
        """As `Jobs.rename`."""
        make = self._calls.one(job, "PATCH", json={"name": name})
        return job_of(await self._answer(make, has_one_effect=True))

    async def delete(self, job: JobName) -> None:
        """As `Jobs.delete`."""
        deletion = _Deletion(self._calls.one(job, "DELETE"), [])
        try:
            await self._answer(deletion, has_one_effect=True)
        except UnknownJob as error:
            deletion.forgive(error)

    def _patience(self, timeout_s: float | None) -> Patience:
        return Patience(timeout_s, self._calls.calls.timeout_s)
