"""Works at the files of jobs: leases one, recognises it as the router does, stores the result.

A worker has no queue of its own. It leases a file only while the pools have little to do for jobs,
and all chunks go through the one scheduler, behind those of interactive requests.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress
from dataclasses import asdict
from tempfile import TemporaryFile
from typing import Any, BinaryIO, Protocol, cast

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from deployments.core.errors import (
    AsrError,
    Draining,
    FetchFailed,
    Overloaded,
    StorageFailed,
    TimedOut,
    UrlRefused,
)
from deployments.core.formats import detailed, to_json
from deployments.core.jobs.objects import audio_key, prefix, result_key
from deployments.core.segments import LOST
from deployments.core.types import Done, TranscribeOptions, Transcript
from deployments.core.wire import to_error_body
from deployments.jobs.journal import SqlJournal
from deployments.jobs.leases import Lease, LeaseLost, Leases
from deployments.jobs.store import OPTIONS, Store, file_of
from deployments.objects import NoObject, Objects
from deployments.request.router import Pipeline
from deployments.request.stored import array
from deployments.service_settings import JobsSettings

logger = logging.getLogger("ray.serve")

POLL_S = 0.3  # how often a worker looks for a file
BEAT_S = 0.5  # how often it sees whether its job was canceled
TROUBLE_PAUSE_S = 2.0  # after the database failed
FIRST_RETRY_S, RETRY_FACTOR, LONGEST_RETRY_S = 5.0, 4.0, 600.0
STORAGE_PAUSE_S, OVERLOADED_PAUSE_S = 30.0, 15.0
LOST_ATTEMPTS = 2  # for segments whose replicas died; then the transcript has a gap
PASSES = (TimedOut, FetchFailed)  # such a failure may not come again
JOURNAL_VERSION = 1  # counts up when the same recording would be cut or recognised otherwise


class Fetch(Protocol):
    """Fetches what a URL names into an open file."""

    async def __call__(self, url: str) -> BinaryIO: ...


class Worker:
    """Works until `stop`. `has_room` tells whether the pools have room for another file."""

    def __init__(
        self,
        engine: AsyncEngine,
        leases: Leases,
        objects: Objects,
        pipeline: Pipeline,
        settings: JobsSettings,
        *,
        model: str,
        has_room: Callable[[], Awaitable[bool]],
        fetch: Fetch | None,
        charge: Callable[[str, int, str, int], Awaitable[None]] | None = None,
    ) -> None:
        """`model` names all models and how they run, since a journal is of use to the same only."""
        self._engine, self._leases, self._objects = engine, leases, objects
        self._pipeline, self._settings, self._model = pipeline, settings, model
        self._has_room, self._fetch, self._charge = has_room, fetch, charge
        self._store = Store(engine, max_waiting=settings.max_waiting)
        self._running: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Leases files for ever. Failures of the database are logged and waited for."""
        in_trouble = False
        while True:
            try:
                began = await self._perhaps_begin()
                in_trouble = False
            except Exception as error:
                if not in_trouble:
                    logger.error("No file of a job can be leased: %s", error)
                in_trouble, began = True, False
                await asyncio.sleep(TROUBLE_PAUSE_S)
            if not began:
                await asyncio.sleep(POLL_S)

    async def stop(self) -> None:
        """Gives the files back, so that another worker can go on at once."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _perhaps_begin(self) -> bool:
        if len(self._running) >= self._settings.max_running:
            return False
        if not (await self._leases.waits() and await self._has_room()):
            return False
        lease = await self._leases.take()
        if lease is None:
            return False
        task = asyncio.create_task(self._work(lease))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return True

    async def _work(self, lease: Lease) -> None:
        """One attempt at one file, with its heartbeat beside it."""
        attempt = asyncio.create_task(self._attempt(lease))
        beating = asyncio.create_task(self._beat(lease))
        try:
            await asyncio.wait({attempt, beating}, return_when="FIRST_COMPLETED")
        finally:
            for task in (attempt, beating):
                task.cancel()
            await asyncio.gather(attempt, beating, return_exceptions=True)
            if attempt.cancelled():
                with suppress(Exception):  # the lease is lost, or it ends by itself
                    await self._leases.give_back(lease)

    async def _beat(self, lease: Lease) -> None:
        """Returns once the lease is lost, or may be because the database cannot be reached."""
        seen_s = time.monotonic()
        while time.monotonic() < seen_s + self._settings.lease_s:
            await asyncio.sleep(BEAT_S)
            try:
                async with asyncio.timeout(self._settings.lease_s):
                    await self._leases.prolong(lease)
                seen_s = time.monotonic()
            except LeaseLost:
                return
            except Exception as error:
                logger.warning("The lease of a file cannot be prolonged: %s", error)

    async def _attempt(self, lease: Lease) -> None:
        try:
            if lease.n_failures >= self._settings.max_attempts:
                message = f"{lease.n_failures} attempts failed. The last one ended its worker."
                await self._leases.fail(lease, "gave_up", message)
                return
            await self._transcribe(lease)
            await self._leases.complete(lease)
        except LeaseLost:
            logger.info("File %s of %s is no longer this worker's.", lease.number, lease.job)
        except (Draining, StorageFailed) as error:
            await self._again(lease, error.retry_after_s, failed=False)
        except Overloaded as error:
            await self._overloaded(lease, error)
        except SQLAlchemyError as error:
            logger.warning("An attempt ended with the database: %s", error)
            await self._again(lease, TROUBLE_PAUSE_S, failed=False)
        except PASSES as error:
            await self._perhaps_again(lease, error)
        except AsrError as error:
            await self._fail(lease, error)
        except OSError as error:  # the disk for temporary files is full, or fails
            logger.warning("An attempt ended with a file: %s", error)
            await self._again(lease, STORAGE_PAUSE_S, failed=False)
        except NoObject:
            await self._leases.fail(lease, "recording_lost", "The stored recording is gone.")
        except Exception:
            logger.exception("An attempt at file %s of %s failed.", lease.number, lease.job)
            await self._perhaps_again(
                lease, AsrError("The service failed. Its log has the details.")
            )

    async def _perhaps_again(self, lease: Lease, error: AsrError) -> None:
        """Lets the file wait for another attempt, or ends it after too many."""
        if lease.n_failures + 1 >= self._settings.max_attempts:
            await self._fail(lease, error)
        else:
            wait_s = min(FIRST_RETRY_S * RETRY_FACTOR**lease.n_failures, LONGEST_RETRY_S)
            await self._again(lease, wait_s, failed=True)

    async def _overloaded(self, lease: Lease, error: Overloaded) -> None:
        """Counts as a failure only where the stages run, so that the file may be the reason."""
        try:
            runs = await self._has_room()
        except AsrError:
            runs = False
        if runs:
            await self._perhaps_again(lease, error)
        else:
            await self._again(lease, max(error.retry_after_s, OVERLOADED_PAUSE_S), failed=False)

    async def _again(self, lease: Lease, wait_s: float, *, failed: bool) -> None:
        """Gives the file back, as soon as the database can be reached.

        A lease that only lapsed would count as the death of its worker.
        """
        while True:
            try:
                await self._leases.give_back(lease, wait_s=wait_s, failed=failed)
                return
            except LeaseLost:
                return
            except Exception as error:
                logger.warning("A file could not be given back yet: %s", error)
                await asyncio.sleep(TROUBLE_PAUSE_S)

    async def _fail(self, lease: Lease, error: AsrError) -> None:
        _, _, body = to_error_body(error)
        with suppress(LeaseLost):
            await self._leases.fail(lease, body["error"]["code"], body["error"]["message"])

    async def _transcribe(self, lease: Lease) -> None:
        """Recognises the file and stores its transcript. Raises what the pipeline raises."""
        row, found = await self._store.find(lease.job, None)
        options = OPTIONS.validate_json(row.options)
        file = file_of((row, found), lease.number)
        key, sha256 = file.object_key, file.sha256
        if key is None:
            key, sha256 = await self._fetched(lease, file.url)
        basis = self._basis(sha256, options)
        journal = SqlJournal(self._engine, self._leases, lease, self._objects, basis)
        with TemporaryFile() as spare:
            with await self._objects.open(key, cast(BinaryIO, spare)) as recording:
                upload = array(recording)
            transcript: Transcript | None = None
            events = self._pipeline.run(upload, options, journal=journal)
            async with aclosing(events):
                async for event in events:
                    if isinstance(event, Done):
                        transcript = event.transcript
        assert transcript is not None
        lost = any(segment.error == LOST for segment in transcript.segments)
        if lost and lease.n_failures < LOST_ATTEMPTS:
            raise Overloaded(FIRST_RETRY_S)  # the next attempt sends these segments alone
        result = to_json(detailed(transcript)).encode()
        await self._leases.prolong(lease)  # an overtaken worker writes no result
        await self._objects.put(result_key(lease.job, lease.number), result)
        await self._keep_or_remove(lease)
        if self._charge is not None and row.owner:
            await self._charge(lease.job, lease.number, row.owner, transcript.duration_ms)

    async def _keep_or_remove(self, lease: Lease) -> None:
        """Removes what was written for a job that was deleted meanwhile. Raises LeaseLost."""
        try:
            await self._leases.prolong(lease)
        except LeaseLost:
            if lease.job not in await self._store.known_of([lease.job]):
                await self._objects.delete(prefix(lease.job))
            raise

    async def _fetched(self, lease: Lease, url: str) -> tuple[str, str]:
        """Stores what the URL names. A later attempt, and who listens, read it from there."""
        if self._fetch is None:
            raise FetchFailed("URLs are not fetched here any more.")
        key = audio_key(lease.job, lease.number)
        try:
            fetched = await self._fetch(url)
        except UrlRefused as error:  # its text was good: the name may only be missing for now
            raise FetchFailed(error.message) from None
        with fetched as file:
            sha256 = await asyncio.to_thread(_sha256, file)
            await self._objects.put_file(key, file)
            n_bytes = file.seek(0, 2)
        await self._leases.prolong(lease, object_key=key, sha256=sha256, n_bytes=n_bytes)
        return key, sha256

    def _basis(self, sha256: str, options: TranscribeOptions) -> str:
        parts = [JOURNAL_VERSION, sha256, asdict(options), self._model]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _sha256(file: BinaryIO) -> str:
    file.seek(0)
    return hashlib.file_digest(cast(Any, file), "sha256").hexdigest()
