"""The endpoints of transcription jobs. What they know of a job they ask the deployment `Jobs`."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from deployments.api import warned
from deployments.api.body import json_object
from deployments.api.doors.door import who
from deployments.api.jobs.dashscope import SUBMIT, TASKS, TaskFront, answering
from deployments.api.jobs.files import JobFiles
from deployments.api.jobs.form import JobForm, check_idempotency_key, read_job_form
from deployments.api.jobs.requests import (
    body_hash,
    called,
    checked_edits,
    name_of,
    named,
    number_of,
    owner_of,
    query_of,
)
from deployments.config import Limits
from deployments.core.errors import AsrError, BadRequest, JobsOff, LimitExceeded, TimedOut
from deployments.core.jobs.model import NAME_CHARS, Json, NewFile, NewJob, new_id
from deployments.core.jobs.objects import audio_key, prefix
from deployments.core.media.announced import announced_ms
from deployments.core.types import EngineInfo, Upload
from deployments.objects import Objects, open_objects
from deployments.service_settings import Fetch, JobsSettings, Storage

logger = logging.getLogger("ray.serve")

T = TypeVar("T")

PATH = "/v1/transcription-jobs"
PING_S = 15.0
HEAD_TIMEOUT_S = 3.0  # for the length of a recording, which only serves an estimate


class JobFront:
    """The endpoints. `jobs` is the handle of the deployment, or anything that answers like it."""

    def __init__(
        self,
        jobs: Any,
        objects: Objects,
        engine: EngineInfo,
        limits: Limits,
        fetch: Fetch,
        settings: JobsSettings,
    ) -> None:
        self._jobs, self._objects = jobs, objects
        self._engine, self._limits = engine, limits
        self._fetch, self._settings = fetch, settings

    async def submit(self, request: Request) -> Response:
        key = request.headers.get("idempotency-key")
        check_idempotency_key(key)
        limit_s = self._limits.request_timeout_s
        try:
            async with asyncio.timeout(limit_s):
                form = await read_job_form(
                    request, self._limits, self._engine, self._fetch, self._settings
                )
        except TimeoutError:
            raise TimedOut("upload", limit_s) from None
        caller = who(request)
        job, is_new = await self.accept(form, caller.id, key, caller.max_waiting_files)
        headers = {"Location": f"{PATH}/{job['id']}", **warned.header(form.without_effect)}
        return JSONResponse(job, 202 if is_new else 200, headers)

    async def accept(
        self, form: JobForm, owner: str, key: str | None, max_waiting: int | None = None
    ) -> tuple[Json, bool]:
        """Stores the recording and then the job. A job that is not new leaves no object.

        Where the answer is lost, the job may be there. So its object stays, until the sweep finds
        that there is no job.
        """
        name = new_id("job")
        try:
            files = await self._stored(name, form)
        except BaseException:
            await asyncio.shield(self._forget(name))
            raise
        new = NewJob(
            id=name,
            files=files,
            options=form.options,
            body_hash=body_hash(form, files),
            owner=owner,
            name=form.name or files[0].name,
            labels=form.labels,
            webhook_url=form.webhook,
            priority=form.priority,
            expires_after_s=form.expires_after_s,
            idempotency_key=key,
            max_waiting=max_waiting,
        )
        try:
            job, is_new = await called(self._jobs.submit.remote(new))
        except (BadRequest, LimitExceeded):
            await asyncio.shield(self._forget(name))
            raise
        if not is_new:
            await self._forget(name)
        return job, is_new

    async def page(self, request: Request) -> Response:
        return JSONResponse(
            await called(self._jobs.page.remote(owner_of(request), query_of(request)))
        )

    async def get(self, request: Request) -> Response:
        return JSONResponse(await called(self._jobs.get.remote(*named(request))))

    async def rename(self, request: Request) -> Response:
        name = (await json_object(request)).get("name")
        if not isinstance(name, str) or "\0" in name or not 0 < len(name.strip()) <= NAME_CHARS:
            raise BadRequest(f"name is a text of 1 to {NAME_CHARS} characters.", "name")
        return JSONResponse(await called(self._jobs.rename.remote(*named(request), name.strip())))

    async def cancel(self, request: Request) -> Response:
        return JSONResponse(await called(self._jobs.cancel.remote(*named(request))))

    async def delete(self, request: Request) -> Response:
        await called(self._jobs.delete.remote(*named(request)))
        return Response(status_code=204)

    async def events(self, request: Request) -> Response:
        sent = request.headers.get("last-event-id") or request.query_params.get("after") or "0"
        after = int(sent) if sent.isascii() and sent.isdigit() and len(sent) < 10 else 0
        job, owner = named(request)
        watching = self._jobs.options(stream=True).watch.remote(
            job, number_of(request), owner, after
        )
        items = aiter(watching)
        try:
            first = await called(anext(items))  # an unknown job is an HTTP status
        except BaseException:
            watching.cancel()
            raise
        events = _events(first, items, after, watching.cancel)
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(events, media_type="text/event-stream", headers=headers)

    async def deliveries(self, request: Request) -> Response:
        found = await called(self._jobs.deliveries.remote(*named(request)))
        return JSONResponse({"object": "list", "data": found})

    async def replay(self, request: Request) -> Response:
        delivery = request.path_params["delivery"]
        found = await called(self._jobs.replay.remote(*named(request), delivery))
        return JSONResponse(next(one for one in found if one["id"] == delivery), 202)

    async def edits(self, request: Request) -> Response:
        job, owner = named(request)
        found = await called(self._jobs.edits.remote(job, number_of(request), owner))
        return JSONResponse({"segments": found})

    async def edit(self, request: Request) -> Response:
        edits = checked_edits(await json_object(request))
        job, owner = named(request)
        await called(self._jobs.edit.remote(job, number_of(request), owner, edits))
        return JSONResponse({"segments": edits})

    async def _stored(self, job: str, form: JobForm) -> tuple[NewFile, ...]:
        """The files of the job, of which an upload is now an object."""
        if form.recording is None:
            return tuple(NewFile(name_of(url), url=url) for url in form.urls)
        with form.recording as recording:
            data = recording.data
            sha256 = await asyncio.to_thread(lambda: hashlib.sha256(data.data).hexdigest())
            key = audio_key(job, 0)
            if recording.file is None:
                await self._objects.put(key, data.tobytes())
            else:
                await self._objects.put_file(key, recording.file)
            length_ms = await _announced_ms(data)
            return (NewFile(form.file_name, None, key, data.nbytes, sha256, length_ms),)

    async def _forget(self, job: str) -> None:
        with suppress(AsrError):  # the sweep of the deployment finds the object later
            await self._objects.delete(prefix(job))

    def routes(self) -> list[Route]:
        one = f"{PATH}/{{job}}"
        return [
            Route(PATH, self.submit, methods=["POST"]),
            Route(PATH, self.page, methods=["GET"]),
            Route(one, self.get, methods=["GET"]),
            Route(one, self.rename, methods=["PATCH"]),
            Route(one, self.delete, methods=["DELETE"]),
            Route(f"{one}/cancel", self.cancel, methods=["POST"]),
            Route(f"{one}/events", self.events, methods=["GET"]),
            Route(f"{one}/edits", self.edits, methods=["GET"]),
            Route(f"{one}/edits", self.edit, methods=["PUT"]),
            Route(f"{one}/deliveries", self.deliveries, methods=["GET"]),
            Route(f"{one}/deliveries/{{delivery}}/replay", self.replay, methods=["POST"]),
        ]


async def _events(
    first: Json, items: Any, after: int, cancel: Callable[[], None]
) -> AsyncGenerator[str]:
    """Server-sent events. The id of each is the number of final segments sent so far."""
    waiting: asyncio.Task[Json | None] | None = None
    try:
        item: Json | None = first
        while item is not None:
            after += item["type"] == "segment"
            yield f"id: {after}\ndata: {json.dumps(item)}\n\n"
            waiting = asyncio.ensure_future(anext(items, None))
            while not (await asyncio.wait({waiting}, timeout=PING_S))[0]:
                yield ": still here\n\n"  # proxies cut a connection on which nothing comes
            item = waiting.result()
        yield "data: [DONE]\n\n"
    except Exception as error:
        logger.warning("A stream of events ended: %s", error)  # the client comes back
    finally:
        if waiting is not None:
            waiting.cancel()
        cancel()


async def _announced_ms(data: Upload) -> int | None:
    """The length that the head of the recording announces, if it can be told at once."""
    stop = threading.Event()
    try:
        return await asyncio.wait_for(asyncio.to_thread(announced_ms, data, stop), HEAD_TIMEOUT_S)
    except TimeoutError:
        return None
    finally:
        stop.set()


def job_routes(
    jobs: Any,
    engine: EngineInfo,
    limits: Limits,
    fetch: Fetch,
    settings: JobsSettings,
    storage: Storage | None,
) -> list[Route]:
    """The routes of jobs. Where there are no jobs, each says which setting turns them on."""
    if jobs is None or storage is None:
        methods = ["GET", "POST", "PUT", "PATCH", "DELETE"]
        ours = [Route(p, _off, methods=methods) for p in (PATH, PATH + "/{rest:path}")]
        shim = (SUBMIT, TASKS, TASKS + "/{rest:path}")
        return [*ours, *(Route(p, answering(_off), methods=["GET", "POST"]) for p in shim)]
    objects = open_objects(storage)
    front = JobFront(jobs, objects, engine, limits, fetch, settings)
    tasks = TaskFront(jobs, objects, engine, fetch, settings, front.accept)
    return [*front.routes(), *JobFiles(jobs, objects).routes(PATH), *tasks.routes()]


async def _off(request: Request) -> Response:
    raise JobsOff("This service takes no jobs: the setting is jobs.enabled.")
