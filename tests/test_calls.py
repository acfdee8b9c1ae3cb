"""The VAD's stream over a Serve handle: replicas that die, hang or fail in the middle."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from typing import Any

import numpy as np
import pytest
from ray.exceptions import RayActorError

from deployments import calls
from deployments.calls import STAGE_ATTEMPTS, HandleCalls
from deployments.core.errors import Overloaded, TimedOut
from deployments.core.types import Span

AUDIO = np.zeros(16_000, np.int16)
A, B, C = Span(0, 400), Span(400, 700), Span(800, 1000)
HANGS = asyncio.TimeoutError  # in a script: nothing comes for longer than the limit


class Response:
    """A streaming response that follows a script: pieces, errors, and then the end."""

    def __init__(self, script: Sequence[Any]) -> None:
        self._script = list(script)
        self.cancelled = False

    async def __anext__(self) -> list[Span]:
        if not self._script:
            raise StopAsyncIteration
        step = self._script.pop(0)
        if step is HANGS:
            await asyncio.sleep(60)
        if isinstance(step, Exception):
            raise step
        return list(step)

    def cancel(self) -> None:
        self.cancelled = True


class Handle:
    """A VAD deployment whose scans follow one script each."""

    def __init__(self, *scripts: Sequence[Any]) -> None:
        self.responses = [Response(script) for script in scripts]
        self._left = list(self.responses)

    @property
    def detect(self) -> Handle:
        return self

    def options(self, *, stream: bool) -> Handle:
        assert stream
        return self

    def remote(self, audio: Any) -> Response:
        return self._left.pop(0)


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "RESTART_PAUSE_S", 0.0)


def handle_calls(vad: Handle) -> HandleCalls:
    nothing: Any = None
    limits = {"VAD": 0.05}
    return HandleCalls(
        vad=vad,  # type: ignore[arg-type]
        pools={},
        punctuation=None,
        dispatcher=nothing,
        stage_timeout_s=limits,
    )


async def _detect(vad: Handle, *, at_most: int = 100) -> list[Span]:
    spans: list[Span] = []
    async with aclosing(handle_calls(vad).detect(AUDIO)) as pieces:
        async for piece in pieces:
            spans += piece
            if len(spans) >= at_most:
                break
    return spans


def test_spans_come_in_order_and_a_finished_call_is_not_cancelled() -> None:
    vad = Handle([[A], [], [B, C]])

    assert asyncio.run(_detect(vad)) == [A, B, C]
    assert not vad.responses[0].cancelled


def test_a_scan_whose_replica_dies_is_made_again_and_no_span_comes_twice() -> None:
    vad = Handle([[A], [B], RayActorError()], [RayActorError()], [[A, B, C]])

    assert asyncio.run(_detect(vad)) == [A, B, C]


def test_replicas_that_keep_dying_are_given_up() -> None:
    vad = Handle(*[[[A], RayActorError()]] * STAGE_ATTEMPTS)

    with pytest.raises(Overloaded):
        asyncio.run(_detect(vad))


def test_a_replica_that_says_nothing_for_too_long_is_a_time_out() -> None:
    vad = Handle([[A], HANGS])

    with pytest.raises(TimedOut) as caught:
        asyncio.run(_detect(vad))

    assert caught.value.stage == "VAD"
    assert vad.responses[0].cancelled


def test_a_scan_that_is_left_is_cancelled() -> None:
    vad = Handle([[A], [B], [C]])

    assert asyncio.run(_detect(vad, at_most=2)) == [A, B]
    assert vad.responses[0].cancelled
