"""What holds for every finished transcript (DESIGN, Times and formats)."""

from __future__ import annotations

from itertools import pairwise

from deployments.core.text import join_texts, join_words
from deployments.core.types import Transcript


def check_invariants(transcript: Transcript) -> None:
    """Raises AssertionError, with the transcript, where one does not hold."""
    segments, words = transcript.segments, transcript.words
    for spanned in (*segments, *words):
        assert 0 <= spanned.start_ms <= spanned.end_ms <= transcript.duration_ms, spanned
    for earlier, later in pairwise(segments):
        assert earlier.end_ms <= later.start_ms, (earlier, later)
    for before, after in pairwise(words):
        assert before.end_ms <= after.start_ms, (before, after)
    for segment in segments:
        for word in segment.words:
            assert segment.start_ms <= word.start_ms <= word.end_ms <= segment.end_ms, word
        for cue in segment.cues:
            assert segment.start_ms <= cue.start_ms <= cue.end_ms <= segment.end_ms, cue
    if transcript.has_word_times:
        assert transcript.text == join_words(words)
        assert [s.text for s in segments] == [join_words(s.words) for s in segments]
    else:
        assert not words
        assert transcript.text == join_texts(s.text for s in segments)
