"""Requests through the real pipeline over fake engines.

The subjects are refusals, warnings, the cost of failures, and clients that leave.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import numpy as np
import pytest

from deployments.core.errors import EngineFailed, Overloaded
from deployments.core.scheduler.events import Finished, GiveUp, Order
from deployments.core.segments import LOST, Answer
from deployments.core.types import (
    Audio,
    ChunkResult,
    Hints,
    Recognition,
    Span,
    TranscribeOptions,
)
from deployments.request import fanout
from deployments.request.ahead import in_background
from deployments.request.router import Pipeline
from tests.request.harness import (
    ONE_REPLICA,
    TEXT_ONLY,
    InProcessCalls,
    Misfortune,
    echo,
    run,
    upload,
)


def fake_calls(**changes: object) -> InProcessCalls:
    arguments: dict[str, object] = {
        "detect_spans": lambda audio: [Span(0, 1000), Span(1500, 3000)],
        "transcribe": echo,
        "punctuate_batch": lambda tasks: [],
        "pools": ONE_REPLICA,
    }
    return InProcessCalls(**(arguments | changes))  # type: ignore[arg-type]


def fails_on_a_second(batch: Sequence[Audio], hints: Hints) -> list[Recognition]:
    """Fails on every batch that has a segment of exactly one second."""
    if any(len(item) == 16_000 for item in batch):
        raise RuntimeError("a kernel failed")
    return echo(batch, hints)


class FailsOnce:
    """An engine whose first call fails."""

    def __init__(self) -> None:
        self._has_failed = False

    def transcribe(self, batch: Sequence[Audio], hints: Hints) -> list[Recognition]:
        if not self._has_failed:
            self._has_failed = True
            raise RuntimeError("this card has fallen off the bus")
        return echo(batch, hints)


async def cancel_three_times(task: asyncio.Task[None]) -> None:
    for _ in range(3):
        await asyncio.sleep(0)
        task.cancel()


def test_silence_gives_an_empty_transcript() -> None:
    calls = fake_calls(detect_spans=lambda audio: [])

    transcript, deltas = run(calls, np.zeros(16_000, np.int16))

    assert (transcript.text, transcript.segments, deltas) == ("", (), "")
    assert transcript.duration_ms == 1000
    assert calls.n_chunks == 0


def test_one_bad_segment_costs_no_other_and_is_named() -> None:
    transcript, _ = run(
        fake_calls(transcribe=fails_on_a_second), np.ones(64_000, np.int16), plan=TEXT_ONLY
    )

    assert transcript.text == "24000"
    assert [s.error for s in transcript.segments] == [
        "The engine failed on this segment: RuntimeError",
        None,
    ]
    assert transcript.warnings == ("Segment 0: The engine failed on this segment: RuntimeError",)


def test_a_recording_whose_segments_all_failed_is_an_error() -> None:
    def broken(batch: Sequence[Audio], hints: Hints) -> list[Recognition]:
        raise RuntimeError("no kernel works")

    with pytest.raises(EngineFailed):
        run(fake_calls(transcribe=broken), np.ones(64_000, np.int16), plan=TEXT_ONLY)


def test_the_last_chunk_is_reported_too() -> None:
    calls = fake_calls()

    run(calls, np.ones(64_000, np.int16), plan=TEXT_ONLY)

    assert calls.n_reports == calls.n_chunks > 0


class Counting(InProcessCalls):
    """Records the calls to the dispatcher."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.asked: list[str] = []

    async def submit(self, *args: Any, **more: Any) -> tuple[bool, list[Order | GiveUp]]:
        self.asked.append("submit")
        return await super().submit(*args, **more)

    async def orders(self, request: str) -> list[Order | GiveUp] | None:
        self.asked.append("orders")
        return await super().orders(request)

    async def finished(self, report: Finished) -> None:
        self.asked.append("finished")
        await super().finished(report)

    async def cancel(self, request: str, reports: Sequence[Finished]) -> None:
        self.asked.append("cancel")
        await super().cancel(request, reports)


def test_a_short_request_calls_the_dispatcher_twice() -> None:
    calls = Counting(lambda _: [Span(0, 1000)], echo, lambda _: [], ONE_REPLICA)

    run(calls, np.ones(64_000, np.int16), plan=TEXT_ONLY)

    assert calls.asked == ["submit", "cancel"]
    assert calls.n_reports == calls.n_chunks == 1


def test_a_request_whose_chunk_takes_long_asks_for_orders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fanout, "QUIET_S", 0.0)
    calls = Counting(lambda _: [Span(0, 1000)], echo, lambda _: [], ONE_REPLICA)

    run(calls, np.ones(64_000, np.int16), plan=TEXT_ONLY)

    assert calls.asked[:2] == ["submit", "submit"]  # the second one: nothing more is coming
    assert "orders" in calls.asked


class ForgetsOnce(Counting):
    """The dispatcher restarts before it hears that no further segment is coming."""

    async def submit(self, *args: Any, **more: Any) -> tuple[bool, list[Order | GiveUp]]:
        if self.asked == ["submit"]:
            self._restart()
        return await super().submit(*args, **more)


def test_what_a_dispatcher_forgot_is_submitted_before_it_is_asked_for_orders(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fanout, "QUIET_S", 0.0)
    calls = ForgetsOnce(lambda _: [Span(0, 1000)], echo, lambda _: [], ONE_REPLICA)

    run(calls, np.ones(64_000, np.int16), plan=TEXT_ONLY)

    assert calls.asked[:3] == ["submit"] * 3


def test_a_report_that_was_told_is_not_kept() -> None:
    async def kept() -> int:
        calls = fake_calls()
        work = fanout._Work("request", np.ones(16_000, np.int16), Hints(), calls, {}, False)
        answered: asyncio.Future[ChunkResult] = asyncio.Future()
        answered.set_result(ChunkResult((Recognition(""),), "only#0", "fake", 1000, 1.0))
        work.under_way = {answered: Order(1, "request", "only", (0,), (1,))}  # type: ignore[dict-item]
        await work.take_results({answered})  # type: ignore[arg-type]
        work.report()
        assert len(work.reports) == 1
        await asyncio.wait(work.reports)
        await asyncio.sleep(0)
        return len(work.reports)

    assert asyncio.run(kept()) == 0


ANSWERED = {0: Answer(Recognition("one"))}


async def refused(*answers: dict[int, Answer]) -> AsyncGenerator[dict[int, Answer]]:
    for found in answers:
        yield found
    raise Overloaded(5.0)


@pytest.mark.parametrize(
    ("answers", "rounds"), [([], []), ([ANSWERED], [(ANSWERED, False)])], ids=["refused", "failed"]
)
def test_a_source_that_raises_has_no_last_answers(
    answers: list[dict[int, Answer]], rounds: list[tuple[dict[int, Answer], bool]]
) -> None:
    got: list[tuple[dict[int, Answer], bool]] = []

    async def read() -> None:
        async for found in in_background(refused(*answers)):
            got.append(found)

    with pytest.raises(Overloaded):
        asyncio.run(read())
    assert got == rounds


class Refusing(InProcessCalls):
    """The dispatcher refuses every request."""

    async def submit(self, *args: Any, **more: Any) -> tuple[bool, list[Order | GiveUp]]:
        raise Overloaded(5.0)


def test_a_stream_that_is_refused_has_no_event_before_the_error() -> None:
    calls = Refusing(lambda _: [Span(0, 1000)], echo, lambda _: [], ONE_REPLICA)

    async def first() -> object:
        audio = upload(np.ones(64_000, np.int16))
        return await anext(Pipeline(TEXT_ONLY, calls).run(audio, TranscribeOptions()))

    with pytest.raises(Overloaded):
        asyncio.run(first())


def test_a_segment_that_kills_every_replica_is_lost_alone_and_named() -> None:
    calls = fake_calls(misfortune=Misfortune(dies_with=16_000))

    transcript, _ = run(calls, np.ones(64_000, np.int16), plan=TEXT_ONLY)

    assert transcript.text == "24000"
    assert [s.error for s in transcript.segments] == [LOST, None]


def test_a_recording_whose_segments_were_all_lost_may_be_sent_again() -> None:
    calls = fake_calls(
        detect_spans=lambda audio: [Span(0, 1000)], misfortune=Misfortune(dies_with=16_000)
    )

    with pytest.raises(Overloaded):
        run(calls, np.ones(64_000, np.int16), plan=TEXT_ONLY)


def test_a_chunk_whose_segments_all_failed_is_tried_once_more_elsewhere() -> None:
    calls = fake_calls(transcribe=FailsOnce().transcribe)

    transcript, _ = run(calls, np.ones(64_000, np.int16), plan=TEXT_ONLY)

    assert [s.text for s in transcript.segments] == ["16000", "24000"]
    assert not transcript.warnings


def test_a_client_that_leaves_costs_no_further_chunk() -> None:
    segments = [Span(100 * i, 100 * i + 90) for i in range(50)]
    calls = fake_calls(detect_spans=lambda audio: segments)

    async def leave_early() -> int:
        pipeline = Pipeline(TEXT_ONLY, calls)
        events = pipeline.run(upload(np.ones(160_000, np.int16)), TranscribeOptions())
        await anext(events)
        await events.aclose()
        sent = calls.n_chunks
        await asyncio.sleep(0.05)
        return calls.n_chunks - sent

    assert asyncio.run(leave_early()) == 0
    assert calls.cancelled == 1
    assert 0 < calls.n_chunks < 50


def test_a_request_whose_task_is_cancelled_again_still_ends_at_the_dispatcher() -> None:
    calls = fake_calls(detect_spans=lambda audio: [Span(100 * i, 100 * i + 90) for i in range(50)])

    async def leave() -> None:
        pipeline = Pipeline(TEXT_ONLY, calls)
        events = pipeline.run(upload(np.ones(160_000, np.int16)), TranscribeOptions())
        await anext(events)
        leaving = asyncio.create_task(events.aclose())
        await cancel_three_times(leaving)
        await asyncio.wait({leaving})
        await asyncio.sleep(0.05)

    asyncio.run(leave())

    assert calls.cancelled == 1
