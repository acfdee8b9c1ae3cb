"""A whole request in one process: pipeline, scheduler and tiny Paraformer, with Serve faked.

The same recording must give the same transcript however its segments are spread, whichever replica
dies or answers twice, and whenever the dispatcher restarts.
"""

from __future__ import annotations

import random
from functools import cache

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.material.random_models import write_paraformer, write_punctuation
from benchmarks.material.synthetic_audio import voice
from deployments.core.scheduler.planning import PoolSpec
from deployments.core.types import Audio, Span, Transcript
from deployments.engines.ct_transformer.engine import CtTransformer
from deployments.engines.paraformer.engine import Paraformer
from deployments.engines.protocols import EngineSettings
from tests.invariants import check_invariants
from tests.request.harness import ONE_REPLICA, InProcessCalls, Misfortune, run


@pytest.fixture(scope="module")
def paraformer(tmp_path_factory: pytest.TempPathFactory) -> Paraformer:
    return Paraformer(write_paraformer(tmp_path_factory.mktemp("asr")), EngineSettings("tiny"))


@pytest.fixture(scope="module")
def punctuator(tmp_path_factory: pytest.TempPathFactory) -> CtTransformer:
    return CtTransformer(write_punctuation(tmp_path_factory.mktemp("punc")), EngineSettings())


@cache
def _voices() -> Audio:
    return voice(60_000, seed=5)


@st.composite
def recordings(draw: st.DrawFn) -> tuple[Audio, list[Span]]:
    """Voice, digital silence and scraps of 0.1 s, with the spans that a VAD might find."""
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


def comparable(transcript: Transcript) -> list[object]:
    """All that must not depend on the split: everything but replicas and computing times."""
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


def unlucky_run(paraformer: Paraformer, punctuator: CtTransformer, seed: int) -> InProcessCalls:
    """The calls of one recording of 40 segments on two replicas, after misfortunes."""
    spans = [Span(1000 * i, 1000 * i + 900) for i in range(40)]
    pool = PoolSpec("p0", 9_000, 50.0, 3000.0, 4, 1000.0)
    calls = InProcessCalls(
        lambda _: spans,
        paraformer.transcribe,
        punctuator.punctuate,
        {"p0": (2, pool)},
        random.Random(seed),
        Misfortune(dies=0.2, answers_twice=0.2, dispatcher_restarts=0.1),
    )
    run(calls, _voices()[: 40_000 * 16])
    return calls


def test_the_harness_has_deaths_restarts_named_calls_and_large_batches(
    paraformer: Paraformer, punctuator: CtTransformer
) -> None:
    runs = [unlucky_run(paraformer, punctuator, seed) for seed in range(3)]

    assert sum(calls.n_deaths for calls in runs) >= 1
    assert sum(calls.n_restarts for calls in runs) >= 1
    assert sum(calls.n_named for calls in runs) >= 1
    assert sum(calls.largest_batch for calls in runs) >= 4
