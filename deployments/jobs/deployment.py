"""The deployment of jobs: answers the HTTP front's questions about jobs, and works at them.

With SQLite there is one replica, because the database is a file of its machine. With PostgreSQL
there may be any number.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Mapping
from contextlib import suppress
from functools import partial
from secrets import token_urlsafe
from typing import Any, TypeVar

from ray.serve.handle import DeploymentHandle
from sqlalchemy.exc import SQLAlchemyError

from deployments.config import Limits
from deployments.core.errors import BadRequest, LimitExceeded, StorageFailed
from deployments.core.jobs.edits import edited
from deployments.core.jobs.model import ENDED, Json, NewJob, Query, new_id
from deployments.core.jobs.objects import audio_key, prefix
from deployments.core.jobs.tasks import TaskQuery
from deployments.core.types import Transcript, Upload
from deployments.database.connection import connect
from deployments.database.migrate import migrate
from deployments.jobs.housekeeping import Housekeeping
from deployments.jobs.kept_secrets import LINKS, STORAGE, kept_secret
from deployments.jobs.leases import Leases
from deployments.jobs.outbox import Outbox
from deployments.jobs.sources import Sources, check
from deployments.jobs.store import Found, Store, file_of
from deployments.jobs.tasks import tasks_of
from deployments.jobs.view import Outlook, first_waiting, job_json
from deployments.jobs.webhooks import Sender
from deployments.jobs.worker import Worker
from deployments.keys.messages import Left
from deployments.objects import open_objects, transcript_of
from deployments.outgoing.guard import Guard
from deployments.request.calls import HandleCalls, directly
from deployments.request.plan import RouterPlan
from deployments.request.router import Pipeline
from deployments.service_settings import Fetch, JobsSettings, Storage
from deployments.storage import data_dir, database_url, in_data_dir

logger = logging.getLogger("ray.serve")

T = TypeVar("T")

WATCH_POLL_S = 0.5
SNAPSHOT_AGE_S = 1.0
RETRY_S = 5.0


class Jobs:
    """`owner` of each method is the id of the caller's key. None is an operator, who sees all."""

    async def __init__(  # type: ignore[misc] # Serve awaits it
        self,
        plan: RouterPlan,
        calls_arguments: dict[str, Any],
        settings: JobsSettings,
        storage: Storage,
        fetch: Fetch,
        limits: Limits,
        models: Mapping[str, str | None],
        keys: DeploymentHandle[Any] | None = None,
    ) -> None:
        url = database_url(storage)
        if in_data_dir(url):
            data_dir(storage).mkdir(parents=True, exist_ok=True)
        engine = connect(url)
        await migrate(engine)
        self._settings, self._objects = settings, open_objects(storage)
        self._fetch, self._limits = fetch, limits
        identity = await kept_secret(engine, STORAGE, partial(new_id, "storage"))
        self._engine = engine
        self._store = Store(engine, max_waiting=settings.max_waiting)
        is_new = not await self._store.has_jobs()
        is_ours = await self._objects.mark(identity, is_new=is_new)
        self._outbox = Outbox(engine)
        self._calls = HandleCalls(**calls_arguments)
        self._stages = ("vad", *(["punctuation"] if plan.punctuate else []))
        self._snapshot: tuple[float, dict[str, Any]] = (0.0, {})
        leases = Leases(engine, new_id("worker"), lease_s=settings.lease_s)
        self._worker = Worker(
            engine,
            leases,
            self._objects,
            Pipeline(plan, self._calls),
            settings,
            model=json.dumps([str(plan.engine), dict(models)], sort_keys=True),
            has_room=self._has_room,
            fetch=Sources(fetch, limits),
            charge=None if keys is None else partial(_charge, directly(keys), plan.engine.name),
        )
        tasks: list[Awaitable[None]] = [
            self._worker.run(),
            Housekeeping(self._store, leases, self._objects, settings, sweeps=is_ours).run(),
        ]
        if settings.webhooks:
            tasks.append(Sender(self._outbox, Guard(fetch.allowed), self._described).run())
        self._tasks = [asyncio.ensure_future(task) for task in tasks]

    async def submit(self, job: NewJob) -> tuple[Json, bool]:
        """The job, and whether it is new. Raises Conflict, LimitExceeded and StorageFailed."""
        name, is_new = await _stored(self._store.submit(job))
        return await self.get(name, job.owner), is_new

    async def submit_here(self, job: NewJob, upload: Upload | None = None) -> tuple[Json, bool]:
        """`submit` for a program on the cluster, whose job no front has checked or stored.

        `upload` has the bytes of the job's only file, at most `limits.max_upload_mb`; all of them
        are in memory at once. None for a job of URLs. Raises BadRequest and UploadTooLarge too.
        """
        check(job, upload, self._limits, self._fetch, self._settings)
        if upload is not None:
            await self._objects.put(audio_key(job.id, 0), upload.tobytes())
        try:
            shown, is_new = await self.submit(job)
        except (BadRequest, LimitExceeded):
            await asyncio.shield(self._objects.delete(prefix(job.id)))
            raise
        if not is_new:
            await self._objects.delete(prefix(job.id))
        return shown, is_new

    async def get(self, job: str, owner: str | None) -> Json:
        return await self._described(job, owner)

    async def page(self, owner: str | None, query: Query) -> Json:
        found, cursor = await _stored(self._store.page(owner, query))
        return {
            "object": "list",
            "data": [await self._json(one) for one in found],
            "has_more": bool(cursor),
            "next_cursor": cursor or None,
        }

    async def tasks(self, owner: str | None, query: TaskQuery) -> tuple[list[Json], int]:
        """A numbered page of jobs, and how many there are."""
        found, n_tasks = await _stored(tasks_of(self._engine, owner, query))
        return [job_json(row, files, Outlook()) for row, files in found], n_tasks

    async def link_secret(self) -> str:
        """What signs the links to transcripts, for the HTTP front alone."""
        return await _stored(kept_secret(self._engine, LINKS, token_urlsafe))

    async def cancel(self, job: str, owner: str | None) -> Json:
        await _stored(self._store.cancel(job, owner))
        return await self.get(job, owner)

    async def rename(self, job: str, owner: str | None, name: str) -> Json:
        await _stored(self._store.rename(job, owner, name))
        return await self.get(job, owner)

    async def delete(self, job: str, owner: str | None) -> None:
        """Cancels the job, and removes its rows and then its objects."""
        await _stored(self._store.cancel(job, owner))
        await _stored(self._store.delete(job, owner))
        await self._objects.delete(prefix(job))

    async def edits(self, job: str, number: int, owner: str | None) -> Json:
        file = file_of(await _stored(self._store.find(job, owner)), number)
        edits: Json = json.loads(file.edits or "{}")
        return edits

    async def edit(self, job: str, number: int, owner: str | None, edits: Json) -> None:
        await _stored(self._store.edit(job, number, owner, edits))

    async def file(self, job: str, number: int, owner: str | None) -> Json:
        """What the front needs to send the recording, the peaks or the result of a file."""
        row, found = await _stored(self._store.find(job, owner))
        file = file_of((row, found), number)
        return {
            "state": file.state,
            "error_code": file.error_code,
            "error": file.error,
            "name": file.name,
            "object_key": file.object_key,
            "options": row.options,
            "edits": json.loads(file.edits or "{}"),
        }

    async def result(self, job: str, number: int, owner: str | None, is_edited: bool) -> Transcript:
        """The transcript of a file. Raises Conflict unless the file is completed."""
        file = await self.file(job, number, owner)
        transcript = await transcript_of(self._objects, job, number, file)
        edits = {int(i): text for i, text in file["edits"].items()} if is_edited else {}
        return edited(transcript, edits)

    async def watch(
        self, job: str, number: int, owner: str | None, after: int
    ) -> AsyncGenerator[Json]:
        """The job whenever it has changed, and the final segments of a file from `after` on.

        The last item is the job in its final state.
        """
        shown: Json | None = None
        while True:
            found = await _stored(self._store.find(job, owner))
            file_of(found, number)
            finals = await _stored(self._store.finals(job, number, after))
            for text in finals:
                yield {"type": "segment", **json.loads(text)}
            after += len(finals)
            described = await self._json(found)
            if described != shown:
                shown = described
                yield {"type": "job", "job": described}
            if found[0].state in ENDED:
                return
            await asyncio.sleep(WATCH_POLL_S)

    async def deliveries(self, job: str, owner: str | None) -> list[Json]:
        await _stored(self._store.find(job, owner))
        return await _stored(self._outbox.of_job(job))

    async def replay(self, job: str, owner: str | None, delivery: str) -> list[Json]:
        """Sends a webhook again. Raises UnknownJob."""
        await _stored(self._store.find(job, owner))
        await _stored(self._outbox.replay(job, delivery))
        return await _stored(self._outbox.of_job(job))

    async def check_health(self) -> None:
        """Raises what ended a background task, so that Serve replaces this replica."""
        for task in self._tasks:
            if task.done():
                task.result()

    async def __del__(self) -> None:
        """Called by Serve when the replica is stopped: gives the leases back."""
        for task in self._tasks:
            task.cancel()
        with suppress(Exception):
            await self._worker.stop()

    async def _described(self, job: str, owner: str | None = None) -> Json:
        return await self._json(await _stored(self._store.find(job, owner)))

    async def _json(self, found: Found) -> Json:
        row, files = found
        waiting = first_waiting(files)
        if row.state in ENDED:
            return job_json(row, files, Outlook())
        n_ahead, ahead_ms = await _stored(self._store.ahead(waiting)) if waiting else (None, 0)
        snapshot = await self._recent_snapshot()
        pools = snapshot.get("pools", {}).values()
        outlook = Outlook(
            n_files_ahead=n_ahead,
            ahead_ms=ahead_ms,
            others_s=snapshot.get("queue_s", 0.0),
            speed=sum(pool["replicas"] * pool["full_speed"] for pool in pools),
            now_s=time.time(),
        )
        return job_json(row, files, outlook)

    async def _has_room(self) -> bool:
        """Whether all stages run, some pool can recognise, and jobs have little to do there."""
        snapshot = await self._calls.snapshot()
        pools = snapshot["pools"].values()
        runs = all(snapshot["running"].get(stage) for stage in self._stages)
        can_recognise = any(pool["replicas"] or pool["can_start"] for pool in pools)
        if snapshot["draining"] or not (runs and can_recognise):
            return False
        return bool(snapshot["background_queue_s"] < self._settings.max_backlog_s)

    async def _recent_snapshot(self) -> dict[str, Any]:
        """The dispatcher's figures. Empty while it cannot be asked."""
        at_s, snapshot = self._snapshot
        if time.monotonic() > at_s + SNAPSHOT_AGE_S:
            try:
                snapshot = await self._calls.snapshot()
            except Exception as error:
                logger.warning("The dispatcher's figures are missing: %s", error)
                snapshot = {}
            self._snapshot = (time.monotonic(), snapshot)
        return snapshot


async def _charge(keys: Any, model: str, job: str, number: int, owner: str, ms: int) -> None:
    """Counts the audio of a file for its owner, once however often this is told."""
    try:
        await keys.leave.remote(Left(f"{job}/{number}", owner, model, ms))
    except Exception as error:
        logger.warning("The audio of a job was not counted: %s", error)


async def _stored(work: Awaitable[T]) -> T:
    """The result. Raises StorageFailed where the database cannot be used."""
    try:
        return await work
    except (SQLAlchemyError, OSError) as error:
        logger.error("The database of jobs cannot be used: %s", error)
        raise StorageFailed(RETRY_S) from None
