"""Texts that a person wrote in place of recognised ones, with the times of the words they keep."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from itertools import pairwise

from deployments.core.text import join_texts
from deployments.core.types import Transcript, TranscriptSegment, Word

# A Chinese character, or a run of letters and digits, with the space before and the marks behind.
UNIT = re.compile(r"(\s*)([^\W\u2e80-\uffff]+(?:[.'’\-][^\W\u2e80-\uffff]+)*|\w|\S)([^\w\s]*)")


@dataclass(frozen=True, slots=True)
class _Unit:
    text: str
    mark: str
    space: bool


def edited(transcript: Transcript, edits: Mapping[int, str]) -> Transcript:
    """The transcript with these texts, by the index of their segments. Times do not change."""
    if not edits:
        return transcript
    segments = tuple(
        edited_segment(s, edits[s.index]) if s.index in edits else s for s in transcript.segments
    )
    return replace(transcript, segments=segments, text=join_texts(s.text for s in segments))


def edited_segment(segment: TranscriptSegment, text: str) -> TranscriptSegment:
    """The segment with another text. Words that stand in both keep their times.

    New words share the time of the words that they replace, or of the gap in which they stand.
    """
    text = text.strip()
    words = _words(segment, _units(text)) if segment.words else ()
    return replace(segment, text=text, words=words, cues=())


def _units(text: str) -> list[_Unit]:
    return [_Unit(word, mark, bool(space)) for space, word, mark in UNIT.findall(text)]


def _words(segment: TranscriptSegment, units: Sequence[_Unit]) -> tuple[Word, ...]:
    old = segment.words
    before = [word.text.lower() for word in old]
    after = [unit.text.lower() for unit in units]
    words: list[Word] = []
    for kind, first, end, from_, to in SequenceMatcher(None, before, after, False).get_opcodes():
        if kind == "equal":
            times = [(word.start_ms, word.end_ms) for word in old[first:end]]
        else:
            start_ms = old[first - 1].end_ms if first else segment.start_ms
            end_ms = old[end].start_ms if end < len(old) else segment.end_ms
            if first < end:
                start_ms, end_ms = old[first].start_ms, old[end - 1].end_ms
            times = _shared(start_ms, max(start_ms, end_ms), to - from_)
        for unit, (start_ms, end_ms) in zip(units[from_:to], times, strict=True):
            words.append(Word(unit.text, start_ms, end_ms, unit.mark, unit.space))
    return tuple(words)


def _shared(start_ms: int, end_ms: int, count: int) -> list[tuple[int, int]]:
    """The time in `count` equal parts."""
    length_ms = end_ms - start_ms
    bounds = [start_ms + length_ms * i // max(1, count) for i in range(count + 1)]
    return list(pairwise(bounds))
