"""Recognition begins while the VAD still reads, and ends when the VAD or the client ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import numpy as np
import pytest

from deployments.core.errors import Overloaded
from deployments.core.scheduler.events import Finished
from deployments.core.types import Audio, Done, Progress, Span, StreamEvent, TranscribeOptions
from tests.request.harness import ONE_REPLICA, TEXT_ONLY, InProcessCalls, echo, events_of, run


class Slow(InProcessCalls):
    """A VAD that yields the second span once the first is recognised."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.began, self.recognised, self.ended = (asyncio.Event() for _ in range(3))

    async def detect(self, audio: Audio) -> AsyncGenerator[list[Span]]:
        self.began.set()
        try:
            yield [Span(0, 1000)]
            await self.recognised.wait()
            yield []
            yield [Span(1500, 3000)]
        finally:
            self.ended.set()

    async def finished(self, report: Finished) -> None:
        await super().finished(report)
        self.recognised.set()


def slow_calls() -> Slow:
    return Slow(lambda audio: [], echo, lambda tasks: [], ONE_REPLICA)


def test_recognition_begins_while_the_recording_is_read() -> None:
    calls = slow_calls()

    async def events() -> list[StreamEvent]:
        audio = np.ones(64_000, np.int16)
        return await asyncio.wait_for(events_of(calls, audio, TranscribeOptions(), TEXT_ONLY), 5)

    came = asyncio.run(events())

    totals = [event.total_ms for event in came if isinstance(event, Progress)]
    assert isinstance(came[-1], Done)
    assert came[-1].transcript.text == "16000 24000"
    assert totals == sorted(totals)
    assert totals[-1] == 2500


def test_a_client_that_leaves_ends_the_reading() -> None:
    calls = slow_calls()

    async def leave_early() -> None:
        audio = np.ones(64_000, np.int16)
        waiting = asyncio.create_task(events_of(calls, audio, TranscribeOptions(), TEXT_ONLY))
        await calls.began.wait()
        waiting.cancel()
        await asyncio.wait_for(calls.ended.wait(), 5)

    asyncio.run(leave_early())

    assert not calls.recognised.is_set()


def test_a_failing_vad_fails_the_request_and_ends_it_at_the_dispatcher() -> None:
    class Failing(InProcessCalls):
        async def detect(self, audio: Audio) -> AsyncGenerator[list[Span]]:
            yield [Span(0, 1000)]
            raise Overloaded(5.0)

    calls = Failing(lambda audio: [], echo, lambda tasks: [], ONE_REPLICA)

    with pytest.raises(Overloaded):
        run(calls, np.ones(64_000, np.int16), plan=TEXT_ONLY)

    assert calls.cancelled == 1
