"""A router holds a bounded amount of audio, whatever is sent at once."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np
import pytest

from deployments.core.errors import Overloaded
from deployments.core.types import SAMPLE_RATE_HZ, TranscribeOptions
from deployments.request.memory import AudioMemory
from deployments.request.router import Pipeline
from tests.request.harness import PLAN, upload
from tests.request.test_requests import fake_calls

NOISE = np.random.default_rng(0).integers(-99, 99, 150 * SAMPLE_RATE_HZ, np.int16)
THREE_MINUTES = replace(PLAN, max_held_audio_s=180.0, decode_threads=8)


async def outcomes(pipeline: Pipeline, n: int) -> list[str]:
    async def one() -> str:
        events = pipeline.run(upload(NOISE), TranscribeOptions())
        try:
            return [type(event).__name__ async for event in events][-1]
        except Overloaded:
            return "Overloaded"

    return await asyncio.gather(*(one() for _ in range(n)))


def test_what_goes_beyond_is_refused_and_what_fits_is_served() -> None:
    pipeline = Pipeline(THREE_MINUTES, fake_calls())

    together = asyncio.run(outcomes(pipeline, 1))
    many = Pipeline(replace(THREE_MINUTES, max_held_audio_s=400.0), fake_calls())
    crowd = asyncio.run(outcomes(many, 6))

    assert together == ["Done"]
    assert set(crowd) == {"Done", "Overloaded"}
    assert pipeline.memory.held_s == many.memory.held_s == 0


def test_a_request_that_is_over_takes_nothing_more() -> None:
    memory = AudioMemory(100.0)
    with memory.request() as held:
        held.admit(60)
        with pytest.raises(Overloaded):
            held.admit(60)
        assert memory.held_s == 60

    assert memory.held_s == 0
    with pytest.raises(Overloaded):
        held.admit(1)


def test_a_client_that_leaves_gives_its_memory_back() -> None:
    async def leave() -> Pipeline:
        pipeline = Pipeline(THREE_MINUTES, fake_calls())
        events = pipeline.run(upload(NOISE), TranscribeOptions())
        await anext(events)
        assert pipeline.memory.held_s == 180
        await events.aclose()
        return pipeline

    assert asyncio.run(leave()).memory.held_s == 0
