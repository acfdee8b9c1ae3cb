"""A worker that is killed at any write costs no word, and its successor goes on where it was.

The models are tiny and real. Replicas die and the dispatcher restarts too.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from benchmarks.material.random_models import write_paraformer, write_punctuation
from benchmarks.material.synthetic_audio import voice
from deployments.core.errors import InvalidAudio
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
from deployments.jobs import worker as worker_module
from deployments.jobs.housekeeping import Housekeeping
from deployments.jobs.leases import Lease, Leases
from deployments.jobs.store import Store, file_of
from deployments.jobs.worker import Worker
from deployments.objects import Objects, folder_objects
from deployments.request.router import Pipeline
from deployments.service_settings import JobsSettings
from tests.jobs.conftest import opened
from tests.request.harness import ONE_REPLICA, PLAN, InProcessCalls, Misfortune, echo, upload

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


@pytest.fixture(autouse=True)
def _in_haste(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "POLL_S", 0.01)
    monkeypatch.setattr(worker_module, "BEAT_S", 0.05)
    monkeypatch.setattr(worker_module, "FIRST_RETRY_S", 0.01)
    monkeypatch.setattr("deployments.objects.RETRY_S", 0.2)


@pytest.fixture(scope="module")
def paraformer(tmp_path_factory: pytest.TempPathFactory) -> Paraformer:
    return Paraformer(write_paraformer(tmp_path_factory.mktemp("asr")), EngineSettings("tiny"))


@pytest.fixture(scope="module")
def punctuator(tmp_path_factory: pytest.TempPathFactory) -> CtTransformer:
    return CtTransformer(write_punctuation(tmp_path_factory.mktemp("punc")), EngineSettings())


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


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
def test_a_job_whose_workers_are_killed_at_any_write_ends_as_an_undisturbed_one(
    url: str, tmp_path: Path, paraformer: Paraformer, punctuator: CtTransformer, seed: int
) -> None:
    audio, rng = voice(21_000, seed=seed), random.Random(seed)

    async def run() -> tuple[Transcript, Transcript, int, int]:
        objects = folder_objects(tmp_path / "objects")
        counting, n_deaths = Counting(paraformer), 0
        async with opened(url) as engine:
            first = await submitted(engine, objects, audio)
            alone = worker_on(
                engine,
                Leases(engine, "alone", lease_s=60),
                objects,
                calls_of(counting, punctuator, seed),
            )
            await worked(alone, lambda: ended(engine, first))
            once, counting.n_samples = counting.n_samples, 0
            second = await submitted(engine, objects, audio)
            state = asyncio.create_task(ended(engine, second))
            while not state.done():
                mortal = Mortal(engine, rng.randint(2, 12))
                calls = calls_of(counting, punctuator, n_deaths, dies=0.1, dispatcher_restarts=0.1)
                dying = worker_on(engine, mortal, objects, calls)

                async def until(mortal: Mortal = mortal) -> None:
                    waits = [asyncio.create_task(mortal.died.wait())]
                    await asyncio.wait([state, *waits], return_when="FIRST_COMPLETED")
                    waits[0].cancel()

                with suppress(Killed):
                    await worked(dying, until)
                n_deaths += mortal.died.is_set()
            assert (await state)["state"] == "completed"
            return (
                await transcript_of(objects, first),
                await transcript_of(objects, second),
                n_deaths,
                counting.n_samples - once,
            )

    undisturbed, disturbed, n_deaths, n_twice = asyncio.run(run())

    print(f"{n_deaths} deaths, {n_twice / 16_000:.1f} s of {len(audio) / 16_000} recognised twice")
    assert comparable(disturbed) == comparable(undisturbed)
    assert n_deaths > 0


def test_known_answers_are_not_recognised_again(
    tmp_path: Path, paraformer: Paraformer, punctuator: CtTransformer
) -> None:
    audio = voice(21_000, seed=3)

    async def run() -> tuple[int, int]:
        objects, counting = folder_objects(tmp_path / "objects"), Counting(paraformer)
        async with opened(f"sqlite:///{tmp_path / 'state.db'}") as engine:
            job = await submitted(engine, objects, audio)
            calls = InProcessCalls(lambda _: SPANS, counting, punctuator.punctuate, ONE_REPLICA)
            mortal = Mortal(engine, 9)
            dying = worker_on(engine, mortal, objects, calls)
            await worked(dying, mortal.died.wait)
            before = counting.n_samples
            _, (file,) = await Store(engine, max_waiting=9).find(job, None)
            calls = InProcessCalls(lambda _: SPANS, counting, punctuator.punctuate, ONE_REPLICA)
            heir = worker_on(engine, Leases(engine, "heir", lease_s=60), objects, calls)
            await worked(heir, lambda: ended(engine, job))
            return file.done_ms, counting.n_samples - before

    kept_ms, n_samples = asyncio.run(run())

    assert kept_ms > 0  # the first worker has died in the middle
    assert kept_ms + n_samples // 16 == sum(span.n_ms for span in SPANS)


def test_another_model_begins_anew(tmp_path: Path) -> None:
    audio = voice(21_000, seed=3)

    async def run() -> list[str]:
        objects = folder_objects(tmp_path / "objects")
        async with opened(f"sqlite:///{tmp_path / 'state.db'}") as engine:
            job = await submitted(engine, objects, audio)
            old = InProcessCalls(lambda _: SPANS, echo, _unmarked, ONE_REPLICA)
            mortal = Mortal(engine, 9)
            dying = worker_on(engine, mortal, objects, old)
            await worked(dying, mortal.died.wait)
            new = InProcessCalls(lambda _: SPANS, _other, _unmarked, ONE_REPLICA)
            leases = Leases(engine, "heir", lease_s=60)
            heir = worker_on(engine, leases, objects, new, model="other")
            await worked(heir, lambda: ended(engine, job))
            segments = (await transcript_of(objects, job)).segments
            return [segment.text.rstrip("，。") for segment in segments]

    assert asyncio.run(run()) == ["other"] * len(SPANS)


@pytest.mark.parametrize(
    ("error", "code"),
    [(InvalidAudio("No sound."), "invalid_audio"), (ValueError("secret"), "internal_error")],
)
def test_a_recording_that_cannot_be_read_ends_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, code: str
) -> None:
    def broken(*_: Any, **__: Any) -> Audio:
        raise error

    monkeypatch.setattr("deployments.request.router.decode", broken)

    async def run() -> Json:
        objects = folder_objects(tmp_path / "objects")
        async with opened(f"sqlite:///{tmp_path / 'state.db'}") as engine:
            job = await submitted(engine, objects, voice(3000, seed=1))
            calls = InProcessCalls(lambda _: SPANS, echo, _unmarked, ONE_REPLICA)
            leases = Leases(engine, "w", lease_s=60)
            working = worker_on(engine, leases, objects, calls, max_attempts=2)
            state: list[Json] = []

            async def until() -> None:
                state.append(await ended(engine, job))

            await worked(working, until)
            return state[0]

    found = asyncio.run(run())

    assert (found["state"], found["code"]) == ("failed", code)
    assert "secret" not in found["file"].error


def test_a_canceled_job_frees_the_pools_within_a_second(tmp_path: Path) -> None:
    asked, cancelled = asyncio.Event(), asyncio.Event()

    class Slow(InProcessCalls):
        async def recognise(self, *_: Any, **__: Any) -> Any:
            asked.set()
            try:
                await asyncio.sleep(3600)
            finally:
                cancelled.set()

    async def run() -> float:
        objects = folder_objects(tmp_path / "objects")
        async with opened(f"sqlite:///{tmp_path / 'state.db'}") as engine:
            job = await submitted(engine, objects, voice(3000, seed=1))
            calls = Slow(lambda _: SPANS[:1], echo, _unmarked, ONE_REPLICA)
            working = worker_on(engine, Leases(engine, "w", lease_s=60), objects, calls)
            took_s = 0.0

            async def until() -> None:
                nonlocal took_s
                await asked.wait()
                began_s = asyncio.get_running_loop().time()
                await Store(engine, max_waiting=9).cancel(job, None)
                await cancelled.wait()
                took_s = asyncio.get_running_loop().time() - began_s

            await worked(working, until)
            return took_s

    assert asyncio.run(run()) < 1.0


@pytest.mark.parametrize("goes", ["at first", "at the end"])
def test_a_job_goes_on_when_its_storage_is_back(tmp_path: Path, goes: str) -> None:
    folder, away = tmp_path / "objects", tmp_path / "away"

    async def run() -> tuple[str, int]:
        objects = folder_objects(folder)
        async with opened(f"sqlite:///{tmp_path / 'state.db'}") as engine:
            job = await submitted(engine, objects, voice(21_000, seed=1))

            def recognise(batch: Sequence[Audio], hints: Hints) -> list[Recognition]:
                if goes == "at the end" and folder.exists() and not away.exists():
                    folder.rename(away)
                return _other(batch, hints)

            if goes == "at first":
                folder.rename(away)
            calls = InProcessCalls(lambda _: SPANS, recognise, _unmarked, ONE_REPLICA)
            working = worker_on(engine, Leases(engine, "w", lease_s=60), objects, calls)
            state: list[Json] = []

            async def until() -> None:
                while not state:
                    await asyncio.sleep(1.0)
                    row, _ = await Store(engine, max_waiting=9).find(job, None)
                    assert row.state != "failed"
                    if away.exists():
                        away.rename(folder)
                    state.append(await ended(engine, job))

            await worked(working, until)
            return state[0]["state"], state[0]["file"].n_failures

    assert asyncio.run(run()) == ("completed", 0)


def test_what_a_crash_leaves_is_swept_away_and_nothing_else(tmp_path: Path) -> None:
    async def run() -> list[str]:
        objects = folder_objects(tmp_path / "objects")
        async with opened(f"sqlite:///{tmp_path / 'state.db'}") as engine:
            kept = await submitted(engine, objects, voice(1000, seed=1))
            orphan = new_id("job")
            await objects.put(audio_key(orphan, 0), b"left behind")
            store, leases = Store(engine, max_waiting=9), Leases(engine, "w", lease_s=9)
            house = Housekeeping(store, leases, objects, JobsSettings())
            await house.sweep()
            young = [key async for page in objects.keys("jobs") for key in page]
            await house.sweep(orphan_after_s=-1.0)
            left = [key async for page in objects.keys("jobs") for key in page]
            assert len(young) == 2  # an upload may be under way
            assert file_of(await store.find(kept, None), 0).object_key == left[0]
            return left

    assert len(asyncio.run(run())) == 1


def test_a_job_is_removed_when_its_time_is_over(tmp_path: Path) -> None:
    async def run() -> tuple[set[str], list[str]]:
        objects = folder_objects(tmp_path / "objects")
        async with opened(f"sqlite:///{tmp_path / 'state.db'}") as engine:
            job = await submitted(engine, objects, voice(1000, seed=1))
            store, leases = Store(engine, max_waiting=9), Leases(engine, "w", lease_s=9)
            await store.cancel(job, None)
            await asyncio.sleep(0.05)
            await Housekeeping(store, leases, objects, JobsSettings(keep_hours=1e-6)).sweep()
            left = [key async for page in objects.keys("jobs") for key in page]
            return await store.known_of([job]), left

    assert asyncio.run(run()) == (set(), [])
    assert list((tmp_path / "objects").rglob("job_*")) == []


def _unmarked(tasks: Sequence[PunctuationTask]) -> list[PunctuationStep]:
    return FakePunctuation(Path(), EngineSettings()).punctuate(tasks)


def _other(batch: Sequence[Audio], hints: Hints) -> list[Recognition]:
    return [Recognition("other", (Word("other", 0, 100),)) for _ in batch]
