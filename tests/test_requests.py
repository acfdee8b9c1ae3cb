"""One request after another through the real pipeline, over engines that do what a test needs.

What is refused and what is warned of, what failures cost, and what becomes of a client that leaves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np
import pytest

from deployments.core.errors import BadRequest, EngineFailed, Overloaded, UnknownModel
from deployments.core.segments import LOST
from deployments.core.types import (
    Audio,
    Hints,
    HotwordReport,
    Recognition,
    Span,
    TranscribeOptions,
)
from deployments.router import Pipeline
from tests.harness import ONE_REPLICA, TEXT_ONLY, InProcessCalls, Misfortune, echo, run, upload


def fake_calls(**changes: object) -> InProcessCalls:
    arguments: dict[str, object] = {
        "detect_spans": lambda audio: [Span(0, 1000), Span(1500, 3000)],
        "transcribe": echo,
        "punctuate_batch": lambda tasks: [],
        "pools": ONE_REPLICA,
    }
    return InProcessCalls(**(arguments | changes))  # type: ignore[arg-type]


def test_silence_gives_an_empty_transcript() -> None:
    calls = fake_calls(detect_spans=lambda audio: [])

    transcript, deltas = run(calls, np.zeros(16_000, np.int16))

    assert (transcript.text, transcript.segments, deltas) == ("", (), "")
    assert transcript.duration_ms == 1000
    assert calls.n_chunks == 0


def test_one_bad_segment_costs_no_other_and_is_named() -> None:
    def choosy(batch: Sequence[Audio], hints: Hints) -> list[Recognition]:
        if any(len(item) == 16_000 for item in batch):
            raise RuntimeError("a kernel failed")
        return echo(batch, hints)

    transcript, _ = run(fake_calls(transcribe=choosy), np.ones(64_000, np.int16), plan=TEXT_ONLY)

    assert transcript.text == "24000"
    assert [s.error for s in transcript.segments] == [
        "The engine failed on this segment: RuntimeError",
        None,
    ]
    assert transcript.warnings == ("Segment 0: The engine failed on this segment: RuntimeError",)


def test_a_recording_of_which_nothing_could_be_read_is_an_error() -> None:
    def broken(batch: Sequence[Audio], hints: Hints) -> list[Recognition]:
        raise RuntimeError("no kernel works")

    with pytest.raises(EngineFailed):
        run(fake_calls(transcribe=broken), np.ones(64_000, np.int16), plan=TEXT_ONLY)


def test_the_last_chunk_is_reported_too() -> None:
    calls = fake_calls()

    run(calls, np.ones(64_000, np.int16), plan=TEXT_ONLY)

    assert calls.n_reports == calls.n_chunks > 0


def test_a_segment_that_kills_every_replica_is_lost_alone_and_named() -> None:
    calls = fake_calls(misfortune=Misfortune(dies_with=16_000))

    transcript, _ = run(calls, np.ones(64_000, np.int16), plan=TEXT_ONLY)

    assert transcript.text == "24000"
    assert [s.error for s in transcript.segments] == [LOST, None]


def test_a_recording_of_which_everything_was_lost_may_be_sent_again() -> None:
    calls = fake_calls(
        detect_spans=lambda audio: [Span(0, 1000)], misfortune=Misfortune(dies_with=16_000)
    )

    with pytest.raises(Overloaded):
        run(calls, np.ones(64_000, np.int16), plan=TEXT_ONLY)


def test_a_chunk_of_which_nothing_is_read_is_tried_once_more_elsewhere() -> None:
    n_calls = 0

    def fails_first(batch: Sequence[Audio], hints: Hints) -> list[Recognition]:
        nonlocal n_calls
        n_calls += 1
        if n_calls == 1:
            raise RuntimeError("this card has fallen off the bus")
        return echo(batch, hints)

    transcript, _ = run(
        fake_calls(transcribe=fails_first), np.ones(64_000, np.int16), plan=TEXT_ONLY
    )

    assert [s.text for s in transcript.segments] == ["16000", "24000"]
    assert not transcript.warnings


@pytest.mark.parametrize(
    ("options", "error", "param"),
    [
        (TranscribeOptions(model="gpt-9"), UnknownModel, "model"),
        (TranscribeOptions(word_times=True), BadRequest, "timestamp_granularities[]"),
        (TranscribeOptions(hints=Hints(language="xx")), BadRequest, "language"),
        (TranscribeOptions(hints=Hints(prompt="x" * 101)), BadRequest, "prompt"),
        (TranscribeOptions(hints=Hints(hotwords=tuple("abcd"))), BadRequest, "hotwords"),
        (TranscribeOptions(hints=Hints(hotwords=("x" * 41,))), BadRequest, "hotwords"),
    ],
)
def test_what_this_deployment_cannot_do_is_refused_before_any_work(
    options: TranscribeOptions, error: type[BadRequest], param: str
) -> None:
    calls = fake_calls()

    with pytest.raises(error) as caught:
        run(calls, np.ones(64_000, np.int16), options, TEXT_ONLY)

    assert caught.value.param == param
    assert calls.n_chunks == 0


def test_a_hint_without_effect_is_a_warning_and_does_not_reach_the_engine() -> None:
    seen: list[Hints] = []

    def note(batch: Sequence[Audio], hints: Hints) -> list[Recognition]:
        seen.append(hints)
        return echo(batch, hints)

    asked = TranscribeOptions(hints=Hints(prompt="会议", hotwords=("魔搭",)), itn=True)
    transcript, _ = run(fake_calls(transcribe=note), np.ones(64_000, np.int16), asked, TEXT_ONLY)

    assert set(seen) == {Hints(prompt="会议")}
    assert transcript.hotwords == HotwordReport(applied=(), ignored=("魔搭",))
    assert transcript.warnings == (
        "hotwords: no effect with the model 'whisper-small'.",
        "itn: no effect with the model 'whisper-small'.",
    )


@pytest.mark.parametrize(
    ("asked", "code"),
    [("zh", "zh"), ("zh-CN", "zh"), ("Chinese", "zh"), ("EN", "en"), (None, "zh")],
)
def test_languages_are_told_by_their_common_names(asked: str | None, code: str) -> None:
    options = TranscribeOptions(hints=Hints(language=asked))

    transcript, _ = run(fake_calls(), np.ones(64_000, np.int16), options, TEXT_ONLY)

    assert transcript.language == code


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


def test_a_client_that_is_cancelled_twice_is_still_forgotten() -> None:
    calls = fake_calls(detect_spans=lambda audio: [Span(100 * i, 100 * i + 90) for i in range(50)])

    async def cancel_twice() -> None:
        pipeline = Pipeline(TEXT_ONLY, calls)
        events = pipeline.run(upload(np.ones(160_000, np.int16)), TranscribeOptions())
        await anext(events)
        leaving = asyncio.create_task(events.aclose())
        for _ in range(3):
            await asyncio.sleep(0)
            leaving.cancel()
        await asyncio.wait({leaving})
        await asyncio.sleep(0.05)

    asyncio.run(cancel_twice())

    assert calls.cancelled == 1
