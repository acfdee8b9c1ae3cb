"""Transcribes the recordings of a folder, some at a time, and goes on where it was interrupted.

Where the service takes jobs, each recording is one: the service goes on with it while this command
is away. Elsewhere each recording is a plain request.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from rich.progress import Progress

from clients.folder import Recording, another_key, key_of, recordings
from clients.http import Client
from clients.jobs.asked import JobAsked
from clients.jobs.following import PASSING, Patience
from clients.jobs.model import Job
from clients.options import complain
from clients.outputs import write_whole
from clients.request import Asked
from deployments.core.errors import AsrError, BadRequest, Conflict, Forbidden, JobsOff
from deployments.core.types import Done, Transcript
from deployments.core.types import Progress as Heard


@dataclass(frozen=True, slots=True)
class Batch:
    """How each recording is transcribed and written."""

    client: Client
    asked: Asked
    render: Callable[[Transcript], str]
    progress: Progress
    timeout_s: float  # for which the service may be silent
    is_fresh: bool  # True: a transcript of an earlier job does not do

    def run(
        self, pool: ThreadPoolExecutor, folder: Path, output_dir: Path, *, extension: str
    ) -> int:
        """Transcribes what is not done, and tells of each recording. Returns how many failed.

        The failures are told at the end, where they are seen.
        """
        failures: list[str] = []
        n_written = n_before = 0
        try:
            found = recordings(folder, output_dir, extension)
            todo = [one for one in found if self.is_fresh or not one.is_done]
            n_before = len(found) - len(todo)
            for recording, done in self._done(pool, todo):
                try:
                    warnings = done.result()
                except (AsrError, OSError, ValueError) as error:
                    failures.append(f"{recording.shown}: {error}")
                else:
                    n_written += 1
                    for warning in warnings:
                        complain(f"{recording.shown}: {warning}")
                if self.progress.disable:  # there is no terminal with bars
                    complain(f"{n_written + len(failures)}/{len(todo)} {recording.shown}")
        except (AsrError, OSError) as error:  # the folder cannot be read, or the service asked
            failures.append(str(error))
        for failure in failures:
            complain(failure)
        complain(f"{n_written} written, {n_before} done before, {len(failures)} failed")
        return len(failures)

    def _done(
        self, pool: ThreadPoolExecutor, todo: Sequence[Recording]
    ) -> Iterator[tuple[Recording, Future[tuple[str, ...]]]]:
        """Each recording once its transcript is written, or cannot be."""
        if not todo:
            return
        by_job = takes_jobs(self.client)
        whole = self.progress.add_task("all", total=len(todo))
        running = {pool.submit(self._one, recording, by_job): recording for recording in todo}
        for done in as_completed(running):
            self.progress.advance(whole)
            yield running[done], done

    def _one(self, recording: Recording, by_job: bool) -> tuple[str, ...]:
        """Writes the transcript. Returns its warnings. Raises AsrError, OSError and ValueError."""
        bar = self.progress.add_task(recording.shown, total=None)

        def show(done: float, total: float | None) -> None:
            self.progress.update(bar, completed=done, total=total)

        try:
            found = self._by_job(recording, show) if by_job else self._at_once(recording, show)
            if self.asked.get("word_times") and not found.has_word_times:
                raise BadRequest("The model has no word times.")
            write_whole(recording.output, self.render(found))
        finally:
            self.progress.remove_task(bar)
        return found.warnings

    def _at_once(
        self, recording: Recording, show: Callable[[float, float | None], None]
    ) -> Transcript:
        for event in self.client.stream(recording.path, **self.asked):
            if isinstance(event, Heard):
                show(event.done_ms, event.total_ms)
            if isinstance(event, Done):
                return event.transcript
        raise AssertionError("a stream ends with Done or an error")

    def _by_job(
        self, recording: Recording, show: Callable[[float, float | None], None]
    ) -> Transcript:
        def tell(job: Job) -> None:
            show(job.progress.audio_s_done, job.progress.audio_s_total)

        ended = self.client.jobs.wait(self._submitted(recording), tell=tell)
        if not ended.is_completed:
            raise AsrError(why_not(ended))
        return self.client.jobs.result(ended)

    def _submitted(self, recording: Recording) -> Job:
        """The recording's job: that of an earlier command, unless it came to nothing."""
        key = None if self.is_fresh else key_of(recording, self.asked)
        try:
            job = self._patiently(recording, key)
        except Conflict:  # the file has other bytes, yet the size and the time of the last one
            assert key is not None
            with recording.path.open("rb") as file:
                key = another_key(key, hashlib.file_digest(file, "sha256").hexdigest())
            job = self._patiently(recording, key)
        while key is not None and job.has_ended and not job.is_completed and not job.is_new:
            key = another_key(key, job.id)
            job = self._patiently(recording, key)
        return job

    def _patiently(self, recording: Recording, key: str | None) -> Job:
        """Submits the job, however long the service restarts or its queue is full."""
        asked: JobAsked = {"name": recording.shown[-200:], "idempotency_key": key}
        options = {name: value for name, value in self.asked.items() if name != "word_times"}
        asked |= options  # type: ignore[typeddict-item] # they are those that jobs share
        patience = Patience(None, self.timeout_s)
        while True:
            try:
                return self.client.jobs.submit(recording.path, **asked)
            except PASSING as error:
                time.sleep(patience.pause_s(error))


def takes_jobs(client: Client) -> bool:
    """Whether the service has jobs, and has them for the client's key."""
    try:
        client.jobs.list(limit=1)
    except (JobsOff, Forbidden):
        return False
    return True


def why_not(job: Job) -> str:
    """Why a job that has ended has no transcript, in a sentence."""
    errors = [f"{file.name}: {file.error.message}" for file in job.files if file.error]
    if len(job.files) == 1 and job.files[0].error:
        return job.files[0].error.message
    return "; ".join(errors) or f"The job is {job.state}."
