"""Texts that a person wrote in place of recognised ones, with the times of the words they keep."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from itertools import pairwise

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
    segments: list[TranscriptSegment] = []
    text, is_new = "", False  # so far, and whether its end was edited
    for segment in transcript.segments:
        was_new = is_new
        is_new = segment.index in edits
        if is_new:
            segment = edited_segment(segment, edits[segment.index])
        piece = segment.text.strip()
        is_foreign = bool(text and piece) and text[-1].isascii() and piece[0].isascii()
        is_apart = segment.words[0].space if segment.words else is_foreign
        if was_new or is_new:
            is_apart = is_apart or is_foreign
        if piece:
            text += (" " if is_apart and text else "") + piece
        else:
            is_new = is_new or was_new
        segments.append(_begun(segment, is_apart))
    return replace(transcript, segments=tuple(segments), text=text) if edits else transcript


def edited_segment(segment: TranscriptSegment, text: str) -> TranscriptSegment:
    """The segment with another text. Words that stand in both keep their times.

    New words share the time of the words that they replace, or of the gap in which they stand. Any
    white space is one space, as in all texts of a transcript.
    """
    text = " ".join(text.split())
    words = _words(segment, _units(text)) if segment.words else ()
    changed = replace(segment, text=text, words=words, cues=())
    is_alike = words and words[0].text.isascii() == segment.words[0].text.isascii()
    return _begun(changed, segment.words[0].space) if is_alike else changed


def _begun(segment: TranscriptSegment, is_apart: bool) -> TranscriptSegment:
    """The segment, whose first word stands behind a space or does not."""
    if not segment.words or segment.words[0].space == is_apart:
        return segment
    first = replace(segment.words[0], space=is_apart)
    return replace(segment, words=(first, *segment.words[1:]))


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
