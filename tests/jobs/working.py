"""A worker in the process of a test, over the played calls of the router's tests."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from deployments.core.formats import from_detailed
from deployments.core.jobs.model import ENDED, Json, NewFile, NewJob, new_id
from deployments.core.jobs.objects import audio_key, result_key
from deployments.core.scheduler.planning import PoolSpec
from deployments.core.types import (
    Audio,
    Hints,
    PunctuationStep,
    PunctuationTask,
    Recognition,
    Span,
    TranscribeOptions,
    Transcript,
    Word,
)
from deployments.engines.ct_transformer.engine import CtTransformer
from deployments.engines.fake import FakePunctuation
from deployments.engines.paraformer.engine import Paraformer
from deployments.engines.protocols import EngineSettings
from deployments.jobs.leases import Lease, Leases
from deployments.jobs.store import Store
from deployments.jobs.worker import Worker
from deployments.objects import Objects
from deployments.request.router import Pipeline
from deployments.service_settings import JobsSettings
from tests.request.harness import PLAN, InProcessCalls, Misfortune, upload

LEASE_S = 0.3
PATIENCE_S = 60.0
OPTIONS = TranscribeOptions()
SPANS = [Span(i * 1500, i * 1500 + 1200) for i in range(14)]
TWO_POOLS = {
    "fast": (2, PoolSpec("fast", 3_000, 50.0, 0.0, 2, 0.0)),
    "slow": (1, PoolSpec("slow", 1_000, 5.0, 0.0, 1, 0.0)),
}


class Killed(Exception):
    """The process of the worker is gone."""


class Mortal(Leases):
    """Leases whose worker is killed at its `n_writes`-th write, and writes nothing from then on."""

    def __init__(self, engine: AsyncEngine, n_writes: int) -> None:
        super().__init__(engine, new_id("worker"), lease_s=LEASE_S)
        self.n_left, self.died = n_writes, asyncio.Event()

    async def _fenced(self, connection: AsyncConnection, lease: Lease, values: Any) -> None:
        self.n_left -= 1
        if self.n_left <= 0:
            self.died.set()
            raise Killed
        await super()._fenced(connection, lease, values)


async def free() -> bool:
    return True


def worker_on(
    engine: AsyncEngine,
    leases: Leases,
    objects: Objects,
    calls: InProcessCalls,
    *,
    model: str = "tiny",
    max_attempts: int = 1000,
) -> Worker:
    settings = JobsSettings(lease_s=LEASE_S, max_running=1, max_attempts=max_attempts)
    pipeline = Pipeline(PLAN, calls)
    return Worker(
        engine, leases, objects, pipeline, settings, model=model, has_room=free, fetch=None
    )


async def submitted(engine: AsyncEngine, objects: Objects, audio: Audio) -> str:
    name = new_id("job")
    data = upload(audio).tobytes()
    await objects.put(audio_key(name, 0), data)
    file = NewFile("a.wav", object_key=audio_key(name, 0), n_bytes=len(data), sha256="0" * 64)
    store = Store(engine, max_waiting=100)
    await store.submit(NewJob(name, (file,), OPTIONS, body_hash=""))
    return name


async def worked(worker: Worker, until: Callable[[], Any]) -> None:
    """Lets the worker run until the coroutine ends."""
    running = asyncio.create_task(worker.run())
    try:
        await asyncio.wait_for(until(), PATIENCE_S)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await worker.stop()


async def ended(engine: AsyncEngine, job: str) -> Json:
    """Waits for the end of the job. Returns its state and the error of its file."""
    store = Store(engine, max_waiting=100)
    while True:
        row, files = await store.find(job, None)
        if row.state in ENDED:
            return {"state": row.state, "code": files[0].error_code, "file": files[0]}
        await asyncio.sleep(0.02)


async def transcript_of(objects: Objects, job: str) -> Transcript:
    return from_detailed(json.loads(await objects.get(result_key(job, 0))))


def comparable(transcript: Transcript) -> list[Any]:
    """All that does not depend on where and when a segment was recognised."""
    return [
        transcript.text,
        transcript.duration_ms,
        [(s.start_ms, s.end_ms, s.text, s.words, s.error) for s in transcript.segments],
    ]


class Counting:
    """An engine that counts the audio that it recognises."""

    def __init__(self, paraformer: Paraformer) -> None:
        self._paraformer = paraformer
        self.n_samples = 0

    def __call__(self, batch: Sequence[Audio], hints: Hints) -> list[Recognition]:
        self.n_samples += sum(len(item) for item in batch)
        return self._paraformer.transcribe(batch, hints)


def calls_of(
    recognise: Callable[[Sequence[Audio], Hints], list[Recognition]],
    punctuator: CtTransformer,
    seed: int,
    **misfortune: float,
) -> InProcessCalls:
    return InProcessCalls(
        lambda _: SPANS,
        recognise,
        punctuator.punctuate,
        TWO_POOLS,
        random.Random(seed),
        Misfortune(**misfortune),  # type: ignore[arg-type]
    )


def unmarked(tasks: Sequence[PunctuationTask]) -> list[PunctuationStep]:
    return FakePunctuation(Path(), EngineSettings()).punctuate(tasks)


def other(batch: Sequence[Audio], hints: Hints) -> list[Recognition]:
    return [Recognition("other", (Word("other", 0, 100),)) for _ in batch]
