"""A worker that is killed at any write costs no word, and its successor goes on where it was.

The models are tiny and real. Replicas die and the dispatcher restarts too.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from pathlib import Path

import pytest

from benchmarks.material.marked import marked_folder
from benchmarks.material.synthetic_audio import voice
from deployments.core.types import (
    Transcript,
)
from deployments.engines.ct_transformer.engine import CtTransformer
from deployments.engines.paraformer.engine import Paraformer
from deployments.jobs.leases import Leases
from tests.jobs.conftest import opened
from tests.jobs.working import (
    Counting,
    Killed,
    Mortal,
    calls_of,
    comparable,
    ended,
    submitted,
    transcript_of,
    worked,
    worker_on,
)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
def test_a_job_whose_workers_are_killed_at_any_write_ends_as_an_undisturbed_one(
    url: str, tmp_path: Path, paraformer: Paraformer, punctuator: CtTransformer, seed: int
) -> None:
    audio, rng = voice(21_000, seed=seed), random.Random(seed)

    async def run() -> tuple[Transcript, Transcript, int, int]:
        objects = marked_folder(tmp_path / "objects")
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
