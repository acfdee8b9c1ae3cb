"""A service with jobs in one process: the real front, rows, leases and objects, a fake worker.

It listens on a port of loopback in a thread of its own. It can be stopped and started again on the
same port and the same folder, as after a crash.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import uvicorn
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.routing import Route

from benchmarks.machine import free_port
from benchmarks.material.marked import marked_folder
from deployments.api.ingress import Front, create_app
from deployments.api.jobs.endpoints import job_routes
from deployments.config import Limits
from deployments.core.errors import AsrError
from deployments.core.formats import detailed, to_json
from deployments.core.jobs.objects import result_key
from deployments.database.connection import connect
from deployments.database.migrate import migrate
from deployments.jobs.deployment import Jobs
from deployments.jobs.journal import shown
from deployments.jobs.leases import Lease, LeaseLost, Leases
from deployments.jobs.outbox import Outbox
from deployments.jobs.store import Store, file_of
from deployments.objects import Objects
from deployments.service_settings import Fetch, JobsSettings, Storage
from tests.clients.fakes import ENGINE, FakeHandle, FakeRouter, as_ray_raises
from tests.core.transcripts import PARAFORMER

BUCKETS = Fetch(buckets=("s3://calls",))
SETTINGS = JobsSettings(enabled=True, max_files=3, max_waiting=50)
LIMITS = Limits(max_upload_mb=0.01)
POLL_S = 0.01
LIMIT_S = 30.0


class LocalJobs(Jobs):
    """The deployment of jobs with a folder, without a worker and without a dispatcher."""

    async def __init__(self, engine: AsyncEngine, objects: Objects) -> None:  # type: ignore[misc]
        self._settings, self._objects = SETTINGS, objects
        self._fetch, self._limits = BUCKETS, LIMITS
        self._store, self._outbox = Store(engine, max_waiting=SETTINGS.max_waiting), Outbox(engine)
        self._tasks = []

    async def _recent_snapshot(self) -> dict[str, Any]:
        return {}

    def __del__(self) -> None:  # type: ignore[override]
        """There is no worker to stop."""


class Scribe:
    """Works at files. Recordings that begin with `fail` fail; those with `hold` wait."""

    def __init__(self, engine: AsyncEngine, objects: Objects) -> None:
        self._leases = Leases(engine, "scribe", lease_s=60)
        self._store, self._objects = Store(engine, max_waiting=99), objects
        self.released = asyncio.Event()
        self.heard: list[str] = []  # the names of recordings, one for each recognition

    async def run(self) -> None:
        while True:
            lease = await self._leases.take()
            if lease is None:
                await asyncio.sleep(POLL_S)
            else:
                try:
                    await self._work(lease)
                except LeaseLost:
                    pass
                except asyncio.CancelledError:
                    await self._leases.give_back(lease)
                    raise

    async def _work(self, lease: Lease) -> None:
        file = file_of(await self._store.find(lease.job, None), lease.number)
        data = b"" if file.object_key is None else await self._objects.get(file.object_key)
        self.heard.append(file.name)
        if data.startswith(b"fail"):
            await self._leases.fail(lease, "invalid_audio", "No sound.")
            return
        segments = PARAFORMER.segments
        rows = [{"index": s.index, "start_ms": s.start_ms, "end_ms": s.end_ms} for s in segments]
        total_ms = PARAFORMER.duration_ms
        await self._leases.prolong(lease, duration_ms=total_ms, speech_ms=total_ms)
        if not file.is_planned:
            await self._leases.plan(lease, rows, is_all=True)
        for segment in segments:
            final = {segment.index: json.dumps(shown(segment))}
            await self._leases.keep(lease, {}, final, done_ms=segment.end_ms)
            if data.startswith(b"hold"):
                await self.released.wait()
        transcript = replace(PARAFORMER, duration_ms=total_ms + len(data))
        result = to_json(detailed(transcript)).encode()
        await self._objects.put(result_key(lease.job, lease.number), result)
        await self._leases.complete(lease)


class Method:
    """A method of a handle that runs in the service's loop. It is awaited there or waited for."""

    def __init__(self, method: Any, loop: asyncio.AbstractEventLoop, is_stream: bool) -> None:
        self._method, self._loop, self._is_stream = method, loop, is_stream

    def remote(self, *arguments: Any) -> Any:
        called = self._method(*arguments)
        return Stream(called, self._loop) if self._is_stream else Response(called, self._loop)


class Response:
    """What `remote` returns. It raises errors as Ray wraps them."""

    def __init__(self, called: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._called, self._loop = called, loop

    def __await__(self) -> Any:
        return _wrapped(self._called).__await__()

    def result(self, *, timeout_s: float) -> Any:
        called = asyncio.run_coroutine_threadsafe(_wrapped(self._called), self._loop)
        return called.result(timeout_s)

    def cancel(self) -> None: ...


class Stream(Response):
    """The same of a generator."""

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        return await _wrapped(anext(self._called))

    def __iter__(self) -> Iterator[Any]:
        while (item := self._next()) is not None:
            yield item

    def _next(self) -> Any:
        called = asyncio.run_coroutine_threadsafe(_wrapped(anext(self._called, None)), self._loop)
        return called.result(LIMIT_S)


async def _wrapped(called: Any) -> Any:
    try:
        return await called
    except AsrError as error:
        raise as_ray_raises(error) from None


class JobsHandle:
    """The part of the deployment's handle that the front and the clients use."""

    def __init__(
        self, jobs: Jobs, loop: asyncio.AbstractEventLoop, *, is_stream: bool = False
    ) -> None:
        self._jobs, self._loop, self._is_stream = jobs, loop, is_stream

    def options(self, *, stream: bool) -> JobsHandle:
        return JobsHandle(self._jobs, self._loop, is_stream=stream)

    def __getattr__(self, name: str) -> Method:
        return Method(getattr(self._jobs, name), self._loop, self._is_stream)


class JobService:
    """The service at `url`, once it was started."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._port = folder, free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        self.router = FakeRouter()
        self.handle: JobsHandle
        self.heard: list[str] = []
        self._scribe: Scribe
        self._thread: threading.Thread
        self._server: uvicorn.Server | None = None
        self._loop: asyncio.AbstractEventLoop

    def start(self) -> None:
        self._server = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))
        self._thread.start()
        assert soon(lambda: self._server is not None and self._server.started)

    def stop(self) -> None:
        """Ends every connection, and forgets everything but the folder."""
        assert self._server is not None
        self._server.should_exit = True
        self._thread.join(LIMIT_S)

    def release(self) -> None:
        """Lets the held recordings go on."""
        self._loop.call_soon_threadsafe(self._scribe.released.set)

    async def _serve(self) -> None:
        self._folder.mkdir(exist_ok=True)
        self._loop = asyncio.get_running_loop()
        engine = connect(f"sqlite+aiosqlite:///{self._folder / 'rows.sqlite'}")
        await migrate(engine)
        objects = marked_folder(self._folder / "objects")
        jobs = Jobs.__new__(LocalJobs)
        await LocalJobs.__init__(jobs, engine, objects)
        self.handle = JobsHandle(jobs, self._loop)
        self._scribe = Scribe(engine, objects)
        self._scribe.heard = self.heard
        routes = _routes(self.handle, self._folder)
        app = create_app(Front(FakeHandle(self.router), ENGINE, Limits()), more=routes)
        self._server = uvicorn.Server(
            uvicorn.Config(
                app,
                port=self._port,
                log_level="critical",
                ws="none",
                lifespan="off",
                timeout_graceful_shutdown=0,
            )
        )
        working = asyncio.ensure_future(self._scribe.run())
        await self._server.serve()
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        await engine.dispose()


def _routes(handle: JobsHandle, folder: Path) -> list[Route]:
    return job_routes(handle, ENGINE, LIMITS, BUCKETS, SETTINGS, Storage(data_dir=folder))


@contextmanager
def job_service(folder: Path) -> Iterator[JobService]:
    service = JobService(folder)
    service.start()
    yield service
    service.stop()


def soon(is_so: Callable[[], bool]) -> bool:
    """Whether it becomes so within some seconds."""
    until_s = time.monotonic() + LIMIT_S
    while not is_so() and time.monotonic() < until_s:
        time.sleep(POLL_S)
    return is_so()
