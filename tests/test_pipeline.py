"""The whole request in one process: real pipeline, scheduler and tiny Paraformer, Serve played.

The same recording must give the same transcript however it is spread, whoever dies or answers
twice, and whenever the dispatcher forgets.
"""

from __future__ import annotations

import asyncio
import io
import random
import wave
from collections.abc import Sequence
from functools import cache

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.random_models import write_paraformer, write_punctuation
from benchmarks.synthetic_audio import voice
from deployments.core.errors import BadRequest, EngineFailed, Overloaded, UnknownModel
from deployments.core.planning import PoolSpec
from deployments.core.segments import LOST
from deployments.core.types import (
    Audio,
    Delta,
    Done,
    Event,
    Hints,
    HotwordReport,
    Recognition,
    Span,
    TranscribeOptions,
    Transcript,
    Upload,
)
from deployments.engines.ct_transformer import CtTransformer
from deployments.engines.paraformer import Paraformer
from deployments.engines.protocols import EngineSettings, asr_info
from deployments.router import Pipeline, RouterPlan
from tests.harness import InProcessCalls, Misfortune
from tests.invariants import check_invariants

PLAN = RouterPlan(
    engine=asr_info("paraformer", EngineSettings(name="tiny")),
    languages=("zh",),
    punctuate=True,
    pools={},
    notes=(),
    max_audio_s=3600.0,
    max_prompt_chars=100,
    max_hotwords=3,
    decode_threads=1,
    decode_timeout_s=60.0,
    request_timeout_s=60.0,
)


@pytest.fixture(scope="module")
def paraformer(tmp_path_factory: pytest.TempPathFactory) -> Paraformer:
    return Paraformer(write_paraformer(tmp_path_factory.mktemp("asr")), EngineSettings("tiny"))


@pytest.fixture(scope="module")
def punctuator(tmp_path_factory: pytest.TempPathFactory) -> CtTransformer:
    return CtTransformer(write_punctuation(tmp_path_factory.mktemp("punc")), EngineSettings())


def wav(audio: Audio) -> Upload:
    """The samples as the bytes of a wav file."""
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(16_000)
        writer.writeframes(audio.tobytes())
    return np.frombuffer(file.getvalue(), np.uint8)


@cache
def _voices() -> Audio:
    return voice(60_000, seed=5)


@st.composite
def recordings(draw: st.DrawFn) -> tuple[Audio, list[Span]]:
    """Voice, digital silence and 0.1 s scraps, with the spans that a VAD might give."""
    pieces: list[Audio] = []
    spans: list[Span] = []
    at_ms = 0
    for _ in range(draw(st.integers(1, 14))):
        gap_ms = draw(st.integers(0, 500))
        n_ms = draw(st.one_of(st.sampled_from([100, 110]), st.integers(500, 4000)))
        offset_ms = draw(st.integers(0, 50_000))
        spoken = _voices()[offset_ms * 16 : (offset_ms + n_ms) * 16]
        is_silent = draw(st.integers(0, 4)) == 0
        pieces += [np.zeros(gap_ms * 16, np.int16), spoken * (0 if is_silent else 1)]
        spans.append(Span(at_ms + gap_ms, at_ms + gap_ms + n_ms))
        at_ms += gap_ms + n_ms
    return np.concatenate(pieces), spans


@st.composite
def fleets(draw: st.DrawFn) -> dict[str, tuple[int, PoolSpec]]:
    """One to four pools of any size, speed and budget."""
    return {
        f"p{i}": (
            draw(st.integers(1, 3)),
            PoolSpec(
                name=f"p{i}",
                batch_audio_ms=draw(st.sampled_from([1_000, 9_000, 30_000, 200_000])),
                speed=draw(st.sampled_from([5.0, 50.0, 1000.0])),
                overhead_ms=draw(st.sampled_from([0.0, 3000.0])),  # large: chunks are large too
                max_ongoing=draw(st.integers(1, 8)),
                start_ms=1000.0,
            ),
        )
        for i in range(draw(st.integers(1, 4)))
    }


ONE_REPLICA = {"only": (1, PoolSpec("only", 1, 10.0, 0.0, 1, 0.0))}  # one segment at a time


async def events_of(
    calls: InProcessCalls, upload: Upload, options: TranscribeOptions, plan: RouterPlan
) -> list[Event]:
    return [event async for event in Pipeline(plan, calls).run(upload, options)]


def run(
    calls: InProcessCalls,
    audio: Audio,
    options: TranscribeOptions | None = None,
    plan: RouterPlan = PLAN,
) -> tuple[Transcript, str]:
    """The transcript, and the deltas joined."""
    events = asyncio.run(events_of(calls, wav(audio), options or TranscribeOptions(), plan))
    assert isinstance(events[-1], Done)
    return events[-1].transcript, "".join(e.text for e in events if isinstance(e, Delta))


def comparable(transcript: Transcript) -> list[object]:
    """What must not depend on the split: everything but who did it and how long it took."""
    return [transcript.text, transcript.duration_ms] + [
        (s.start_ms, s.end_ms, s.text, s.words, s.error) for s in transcript.segments
    ]


@pytest.mark.slow
@settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(recordings(), fleets(), st.integers(0, 2**32))
def test_the_transcript_does_not_depend_on_the_split(
    paraformer: Paraformer,
    punctuator: CtTransformer,
    recording: tuple[Audio, list[Span]],
    fleet: dict[str, tuple[int, PoolSpec]],
    seed: int,
) -> None:
    audio, spans = recording
    alone = InProcessCalls(
        lambda _: spans, paraformer.transcribe, punctuator.punctuate, ONE_REPLICA
    )
    spread = InProcessCalls(
        lambda _: spans,
        paraformer.transcribe,
        punctuator.punctuate,
        fleet,
        random.Random(seed),
        Misfortune(dies=0.2, answers_twice=0.2, dispatcher_restarts=0.1),
    )

    expected, _ = run(alone, audio)
    transcript, deltas = run(spread, audio)

    check_invariants(transcript)
    assert comparable(transcript) == comparable(expected)
    assert deltas == transcript.text


def test_the_harness_does_what_the_property_needs(
    paraformer: Paraformer, punctuator: CtTransformer
) -> None:
    spans = [Span(1000 * i, 1000 * i + 900) for i in range(40)]
    pool = PoolSpec("p0", 9_000, 50.0, 3000.0, 4, 1000.0)
    counts = np.zeros(3, int)
    for seed in range(3):
        calls = InProcessCalls(
            lambda _: spans,
            paraformer.transcribe,
            punctuator.punctuate,
            {"p0": (2, pool)},
            random.Random(seed),
            Misfortune(dies=0.2, answers_twice=0.2, dispatcher_restarts=0.1),
        )
        run(calls, np.tile(_voices(), 1)[: 40_000 * 16])
        counts += (calls.n_deaths, calls.n_restarts, calls.largest_batch)

    assert (counts >= (1, 1, 4)).all(), counts


def echo(batch: Sequence[Audio], hints: Hints) -> list[Recognition]:
    return [Recognition(f"{len(item)}") for item in batch]


def fake_calls(**changes: object) -> InProcessCalls:
    arguments: dict[str, object] = {
        "detect_spans": lambda audio: [Span(0, 1000), Span(1500, 3000)],
        "transcribe": echo,
        "punctuate_batch": lambda tasks: [],
        "pools": ONE_REPLICA,
    }
    return InProcessCalls(**(arguments | changes))  # type: ignore[arg-type]


TEXT_ONLY = RouterPlan(
    engine=asr_info("whisper-onnx", EngineSettings(name="whisper-small")),
    languages=("zh", "en"),
    punctuate=False,
    pools={},
    notes=(),
    max_audio_s=3600.0,
    max_prompt_chars=100,
    max_hotwords=3,
    decode_threads=1,
    decode_timeout_s=60.0,
    request_timeout_s=60.0,
)


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
        events = pipeline.run(wav(np.ones(160_000, np.int16)), TranscribeOptions())
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
        events = pipeline.run(wav(np.ones(160_000, np.int16)), TranscribeOptions())
        await anext(events)
        leaving = asyncio.create_task(events.aclose())
        for _ in range(3):
            await asyncio.sleep(0)
            leaving.cancel()
        await asyncio.wait({leaving})
        await asyncio.sleep(0.05)

    asyncio.run(cancel_twice())

    assert calls.cancelled == 1
