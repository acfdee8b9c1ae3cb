"""What a worker does with a file: storage that goes, errors, cancellation, what is left behind."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks.material.marked import marked_folder
from benchmarks.material.synthetic_audio import voice
from deployments.core.errors import InvalidAudio
from deployments.core.jobs.model import Json
from deployments.core.types import (
    Audio,
    Hints,
    Recognition,
)
from deployments.engines.ct_transformer.engine import CtTransformer
from deployments.engines.paraformer.engine import Paraformer
from deployments.jobs.leases import Leases
from deployments.jobs.store import Store
from deployments.request.calls import ReplicaDied
from tests.jobs.conftest import opened
from tests.jobs.working import (
    SPANS,
    Counting,
    Mortal,
    ended,
    other,
    submitted,
    transcript_of,
    unmarked,
    worked,
    worker_on,
)
from tests.request.harness import ONE_REPLICA, InProcessCalls, echo


def test_known_answers_are_not_recognised_again(
    tmp_path: Path, paraformer: Paraformer, punctuator: CtTransformer
) -> None:
    audio = voice(21_000, seed=3)

    async def run() -> tuple[int, int]:
        objects, counting = marked_folder(tmp_path / "objects"), Counting(paraformer)
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
        objects = marked_folder(tmp_path / "objects")
        async with opened(f"sqlite:///{tmp_path / 'state.db'}") as engine:
            job = await submitted(engine, objects, audio)
            old = InProcessCalls(lambda _: SPANS, echo, unmarked, ONE_REPLICA)
            mortal = Mortal(engine, 9)
            dying = worker_on(engine, mortal, objects, old)
            await worked(dying, mortal.died.wait)
            new = InProcessCalls(lambda _: SPANS, other, unmarked, ONE_REPLICA)
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
        objects = marked_folder(tmp_path / "objects")
        async with opened(f"sqlite:///{tmp_path / 'state.db'}") as engine:
            job = await submitted(engine, objects, voice(3000, seed=1))
            calls = InProcessCalls(lambda _: SPANS, echo, unmarked, ONE_REPLICA)
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
        objects = marked_folder(tmp_path / "objects")
        async with opened(f"sqlite:///{tmp_path / 'state.db'}") as engine:
            job = await submitted(engine, objects, voice(3000, seed=1))
            calls = Slow(lambda _: SPANS[:1], echo, unmarked, ONE_REPLICA)
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
        objects = marked_folder(folder)
        async with opened(f"sqlite:///{tmp_path / 'state.db'}") as engine:
            job = await submitted(engine, objects, voice(21_000, seed=1))

            def recognise(batch: Sequence[Audio], hints: Hints) -> list[Recognition]:
                if goes == "at the end" and folder.exists() and not away.exists():
                    folder.rename(away)
                return other(batch, hints)

            if goes == "at first":
                folder.rename(away)
            calls = InProcessCalls(lambda _: SPANS, recognise, unmarked, ONE_REPLICA)
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


def test_segments_whose_replicas_died_are_tried_in_another_attempt(tmp_path: Path) -> None:
    deaths = Counter[int]()

    class Dying(InProcessCalls):
        async def recognise(self, pool: str, replica: str, samples: Audio, *more: Any) -> Any:
            """A pool that dies with its first six chunks."""
            deaths[0] += 1
            if deaths[0] <= 6:
                raise ReplicaDied("gone", replica)
            return await super().recognise(pool, replica, samples, *more)

    async def run() -> tuple[str, list[str | None]]:
        objects = marked_folder(tmp_path / "objects")
        async with opened(f"sqlite:///{tmp_path / 'state.db'}") as engine:
            job = await submitted(engine, objects, voice(21_000, seed=1))
            calls = Dying(lambda _: SPANS[:1], other, unmarked, ONE_REPLICA)
            working = worker_on(engine, Leases(engine, "w", lease_s=60), objects, calls)
            state: list[Json] = []

            async def until() -> None:
                state.append(await ended(engine, job))

            await worked(working, until)
            segments = (await transcript_of(objects, job)).segments
            return state[0]["state"], [segment.error for segment in segments]

    assert asyncio.run(run()) == ("completed", [None])
