"""Planning segments and merging their answers, as properties."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.core.segments import Answer, merge, plan_segments, segment_audio
from deployments.core.types import Audio, Recognition, Segment, Span, Word


@st.composite
def recordings(draw: st.DrawFn) -> tuple[Audio, list[Span], int]:
    """Noise with spans of up to 40 s, some reaching past its end, and a cap."""
    gaps = draw(st.lists(st.tuples(st.integers(0, 3000), st.integers(1, 40_000)), max_size=4))
    spans, at_ms = [], 0
    for gap_ms, n_ms in gaps:
        spans.append(Span(at_ms + gap_ms, at_ms + gap_ms + n_ms))
        at_ms += gap_ms + n_ms
    missing_ms = draw(st.integers(0, 500))
    rng = np.random.default_rng(draw(st.integers(0, 100)))
    audio = rng.integers(-2000, 2000, max(0, at_ms - missing_ms) * 16).astype(np.int16)
    return audio, spans, draw(st.sampled_from([2_000, 10_000, 25_000]))


@given(recordings())
def test_segments_are_sorted_within_the_cap_and_cover_every_span(
    recording: tuple[Audio, list[Span], int],
) -> None:
    audio, spans, max_segment_ms = recording
    duration_ms = len(audio) // 16

    segments = plan_segments(spans, audio, max_segment_ms=max_segment_ms)

    assert [s.index for s in segments] == list(range(len(segments)))
    assert all(0 < s.n_ms <= max_segment_ms for s in segments)
    assert all(a.end_ms <= b.start_ms for a, b in pairwise(segments))
    covered = {ms for s in segments for ms in range(s.start_ms, s.end_ms)}
    wanted = {ms for s in spans for ms in range(s.start_ms, min(s.end_ms, duration_ms))}
    assert covered == wanted


def test_a_long_span_is_cut_in_its_pause() -> None:
    rng = np.random.default_rng(0)
    audio = rng.integers(-8000, 8000, 30_000 * 16).astype(np.int16)
    audio[18_000 * 16 : 18_300 * 16] = 0

    segments = plan_segments([Span(0, 30_000)], audio, max_segment_ms=25_000)

    assert len(segments) == 2
    assert 18_000 < segments[0].end_ms < 18_300


def test_no_cut_leaves_a_piece_of_less_than_a_second() -> None:
    audio = np.zeros(25_100 * 16, np.int16)

    segments = plan_segments([Span(0, 25_100)], audio, max_segment_ms=25_000)

    assert [s.n_ms >= 1_000 for s in segments] == [True, True]


def test_merging_makes_times_absolute_and_keeps_them_inside_the_segment() -> None:
    segments = [Segment(0, 1_000, 2_000), Segment(1, 5_000, 6_000)]
    answers = {
        1: Answer(Recognition("乙", (Word("乙", 900, 1_400),)), pool="b"),
        0: Answer(Recognition("甲", (Word("甲", 100, 300),)), pool="a"),
    }

    merged = merge(segments, answers)

    assert [(s.text, s.pool) for s in merged] == [("甲", "a"), ("乙", "b")]
    assert [(w.start_ms, w.end_ms) for s in merged for w in s.words] == [
        (1_100, 1_300),
        (5_900, 6_000),
    ]


def test_a_segment_without_an_answer_is_an_error_and_not_a_gap() -> None:
    with pytest.raises(KeyError):
        merge([Segment(0, 0, 10)], {})


def test_a_segments_audio_is_its_own_samples() -> None:
    audio = np.arange(160, dtype=np.int16)

    assert segment_audio(audio, Segment(0, 2, 4)).tolist() == list(range(32, 64))
