"""Turns Whisper's pieces of a segment into its text and cues: clean, guard, clamp, join.

Both Whisper engines use `recognition`, so that they print alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from deployments.core.types import Cue, Recognition
from deployments.engines.whisper.chinese_text import needs_space, printed_chinese, spaced
from deployments.engines.whisper.guards import Confidence, is_doubtful, is_invented, is_wordless


@dataclass(frozen=True, slots=True)
class Heard:
    """A piece of raw text between two of Whisper's times, which count from the segment's start."""

    text: str
    start_ms: int
    end_ms: int
    confidence: Confidence


def clean(text: str, language: str) -> str:
    """The text in the form in which its language is printed."""
    return printed_chinese(text) if language == "zh" else spaced(text)


def recognition(
    pieces: Sequence[Heard], *, n_ms: int, language: str, prompt: str = ""
) -> Recognition:
    """The text and cues of a segment of `n_ms`, without text that nobody said.

    The cues lie inside the segment, sorted and without overlap. Their texts, joined, are the text.
    """
    cues: list[Cue] = []
    for piece in pieces:
        text = clean(piece.text, language)
        if is_wordless(text) or is_invented(text, piece.confidence, prompt):
            continue
        earliest_ms = cues[-1].end_ms if cues else 0
        start_ms = min(max(piece.start_ms, earliest_ms), n_ms)
        end_ms = min(max(piece.end_ms, start_ms), n_ms)
        gap = " " if cues and needs_space(cues[-1].text, text) else ""
        cues.append(Cue(gap + text, start_ms, end_ms))
    text = "".join(cue.text for cue in cues)
    if pieces and is_doubtful(text, pieces[0].confidence):
        return Recognition("")
    return Recognition(text, cues=tuple(cues))
