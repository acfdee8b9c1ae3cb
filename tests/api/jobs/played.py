"""The service of jobs in this process: real routes, database and worker, a played recogniser."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryFile
from types import SimpleNamespace
from typing import Any, BinaryIO, cast

import numpy as np
import uvicorn
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from deployments.api.doors.door import Door
from deployments.api.ingress import Front, create_app
from deployments.api.jobs.endpoints import job_routes
from deployments.config import Limits
from deployments.core.errors import InvalidAudio
from deployments.core.jobs.model import new_id
from deployments.core.types import (
    SAMPLES_PER_MS,
    Done,
    StreamEvent,
    TranscribeOptions,
    Transcript,
    Upload,
)
from deployments.database.connection import connect
from deployments.database.migrate import migrate
from deployments.jobs.deployment import Jobs
from deployments.jobs.leases import Leases
from deployments.jobs.outbox import Outbox
from deployments.jobs.sources import Sources
from deployments.jobs.store import Store
from deployments.jobs.worker import Worker
from deployments.objects import Objects, open_objects
from deployments.service_settings import Fetch, JobsSettings, Storage
from tests.clients.fakes import ENGINE, FakeHandle, FakeRouter
from tests.core.transcripts import PARAFORMER

BROKEN = b"this is no sound"
HELD = b"this one takes for ever"


class PlayedPipeline:
    """Recognises every recording as the same, made longer by a millisecond for each byte."""

    def __init__(self) -> None:
        self.asked: list[TranscribeOptions] = []

    async def run(
        self, upload: Upload, options: TranscribeOptions, *, journal: Any
    ) -> AsyncIterator[StreamEvent]:
        self.asked.append(options)
        if bytes(upload) == BROKEN:
            raise InvalidAudio("The file has no sound track.")
        if bytes(upload) == HELD:
            await asyncio.Event().wait()
        transcript = transcript_of(len(upload))
        await journal.before(np.zeros(transcript.duration_ms * SAMPLES_PER_MS, np.int16))
        yield Done(transcript)


def transcript_of(n_bytes: int) -> Transcript:
    return replace(PARAFORMER, duration_ms=PARAFORMER.duration_ms + n_bytes)


class PlayedJobs(Jobs):
    """The deployment without Ray."""

    def __init__(self, engine: Any, objects: Objects, settings: JobsSettings) -> None:
        self._engine, self._objects, self._settings = engine, objects, settings
        self._store = Store(engine, max_waiting=settings.max_waiting)
        self._outbox = Outbox(engine)

    async def _recent_snapshot(self) -> dict[str, Any]:
        return {}

    def __del__(self) -> None:  # type: ignore[override] # nothing to give back
        pass


class Handle:
    """A handle of a deployment in this process."""

    def __init__(self, deployment: object) -> None:
        self._deployment = deployment

    def __getattr__(self, name: str) -> Any:
        return _Method(getattr(self._deployment, name))


@dataclass
class _Method:
    remote: Any


class Played:
    """`pages` has what some URLs name. All other URLs are fetched as they are in the service."""

    def __init__(self, folder: Path, pages: Mapping[str, bytes], fetch: Fetch) -> None:
        self.url = ""
        self.pipeline = PlayedPipeline()
        self._storage = Storage(data_dir=folder)
        self._pages, self.fetch = pages, fetch
        self._settings = JobsSettings(
            enabled=True, max_attempts=1, max_running=8, max_files=3, webhooks=True
        )
        self._server: uvicorn.Server | None = None

    @contextmanager
    def running(self) -> Iterator[Played]:
        thread = threading.Thread(target=partial(asyncio.run, self._serve()))
        thread.start()
        try:
            until_s = time.monotonic() + 30
            while self._server is None or not self._server.started:
                assert time.monotonic() < until_s, "the server does not start"
                time.sleep(0.01)
            port = self._server.servers[0].sockets[0].getsockname()[1]
            self.url = f"http://127.0.0.1:{port}"
            yield self
        finally:
            assert self._server is not None
            self._server.should_exit = True
            thread.join()

    async def _serve(self) -> None:
        assert self._storage.data_dir is not None
        engine = connect(f"sqlite:///{self._storage.data_dir / 'state.db'}")
        await migrate(engine)
        objects = open_objects(self._storage)
        await objects.mark("played", is_new=True)
        worker = self._worker(engine, objects)
        working = asyncio.ensure_future(worker.run())
        jobs = Handle(PlayedJobs(engine, objects, self._settings))
        routes = job_routes(jobs, ENGINE, Limits(), self.fetch, self._settings, self._storage)
        app = create_app(Front(FakeHandle(FakeRouter()), ENGINE, Limits()), (), Named(), routes)
        config = uvicorn.Config(app, port=0, log_level="warning")
        self._server = uvicorn.Server(config)
        await self._server.serve()
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        await worker.stop()
        await engine.dispose()

    def _worker(self, engine: Any, objects: Objects) -> Worker:
        settings = self._settings
        leases = Leases(engine, new_id("worker"), lease_s=settings.lease_s)
        pipeline = cast(Any, self.pipeline)
        return Worker(
            engine,
            leases,
            objects,
            pipeline,
            settings,
            model="played",
            has_room=_always,
            fetch=self._fetched,
        )

    async def _fetched(self, url: str) -> BinaryIO:
        if url not in self._pages:
            return await Sources(self.fetch, Limits())(url)
        file = cast(BinaryIO, TemporaryFile())  # noqa: SIM115 - the worker closes it
        file.write(BytesIO(self._pages[url]).read())
        return file


class Named(Door):
    """A door where the key `none` is no key, and every other is its owner's name."""

    def before(self, app: ASGIApp, routes: Sequence[BaseRoute]) -> ASGIApp:
        async def named(scope: Scope, receive: Receive, send: Send) -> None:
            sent = dict(scope.get("headers", ())).get(b"authorization", b"").decode()
            key = sent.removeprefix("Bearer ")
            name = "" if key in ("", "none") else key
            caller = SimpleNamespace(id=name, max_waiting_files=None)
            await app({**scope, "state": {"caller": caller}}, receive, send)

        return named


async def _always() -> bool:
    return True
