"""From spans of speech to segments, and from the answers to the segments of a transcript.

The transcript depends on the segments and their recognitions alone. It never depends on the
grouping into chunks, on the pool that read a segment, or on the order of the answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from deployments.core.types import (
    SAMPLES_PER_MS,
    Audio,
    Cue,
    Recognition,
    Segment,
    Span,
    TranscriptSegment,
    Word,
)

LOST = "The replicas that were to recognise this segment died or timed out."  # as an `error`
FRAME_MS = 10
QUIET_WINDOW_MS = 100  # the cut falls in the middle of the quietest stretch of this length
MIN_PIECE_MS = 1_000  # no cut leaves a shorter piece, in which an engine would hear nothing


def plan_segments(spans: Sequence[Span], audio: Audio, *, max_segment_ms: int) -> list[Segment]:
    """The spans as segments of at most `max_segment_ms`; longer spans are cut where it is quietest.

    The segments are sorted, do not overlap and lie inside the audio. Every millisecond of every
    span is in one segment. Spans are clipped at the end of the audio, and empty ones left out.
    """
    assert max_segment_ms >= 2 * MIN_PIECE_MS
    duration_ms = len(audio) // SAMPLES_PER_MS
    pieces: list[Span] = []
    for span in spans:
        start_ms, end_ms = max(0, span.start_ms), min(span.end_ms, duration_ms)
        while end_ms - start_ms > max_segment_ms:
            latest_ms = min(start_ms + max_segment_ms, end_ms - MIN_PIECE_MS)
            cut_ms = _quietest_ms(audio, start_ms + max_segment_ms // 2, latest_ms)
            pieces.append(Span(start_ms, cut_ms))
            start_ms = cut_ms
        if end_ms > start_ms:
            pieces.append(Span(start_ms, end_ms))
    return [Segment(index, p.start_ms, p.end_ms) for index, p in enumerate(pieces)]


def _quietest_ms(audio: Audio, from_ms: int, to_ms: int) -> int:
    """The middle of the quietest QUIET_WINDOW_MS inside [from_ms, to_ms]; the latest of equals."""
    window = audio[from_ms * SAMPLES_PER_MS : to_ms * SAMPLES_PER_MS].astype(np.float64)
    n_frames = len(window) // (FRAME_MS * SAMPLES_PER_MS)
    n_smooth = QUIET_WINDOW_MS // FRAME_MS
    if n_frames <= n_smooth:
        return to_ms
    energy = np.square(window[: n_frames * FRAME_MS * SAMPLES_PER_MS]).reshape(n_frames, -1).sum(1)
    smooth = np.convolve(energy, np.ones(n_smooth), mode="valid")
    # The latest of equals: in flat silence the first piece is longest, so there are fewest pieces.
    quietest = len(smooth) - 1 - int(np.argmin(smooth[::-1]))
    return from_ms + quietest * FRAME_MS + QUIET_WINDOW_MS // 2


def segment_audio(audio: Audio, segment: Segment) -> Audio:
    """The segment's own samples, as a view of the recording."""
    return audio[segment.start_ms * SAMPLES_PER_MS : segment.end_ms * SAMPLES_PER_MS]


@dataclass(frozen=True, slots=True)
class Answer:
    """The recognition of one segment, and the replica that made it."""

    recognition: Recognition
    pool: str = ""
    replica: str = ""
    engine: str = ""
    busy_ms: float = 0.0
    attempts: int = 1


def merge(segments: Sequence[Segment], answers: Mapping[int, Answer]) -> list[TranscriptSegment]:
    """One transcript segment per segment, in time order, with absolute times.

    The times stay inside the segment. Raises KeyError if a segment has no answer, because text
    must never be dropped silently.
    """
    merged = []
    for segment in segments:
        answer = answers[segment.index]
        heard = answer.recognition
        merged.append(
            TranscriptSegment(
                index=segment.index,
                start_ms=segment.start_ms,
                end_ms=segment.end_ms,
                text=heard.text,
                words=tuple(_shift_word(word, segment) for word in heard.words),
                cues=tuple(_shift_cue(cue, segment) for cue in heard.cues),
                pool=answer.pool,
                replica=answer.replica,
                engine=answer.engine,
                busy_ms=answer.busy_ms,
                attempts=answer.attempts,
                error=heard.error,
            )
        )
    return merged


def _shift_word(word: Word, segment: Segment) -> Word:
    start_ms, end_ms = _absolute(word.start_ms, word.end_ms, segment)
    return replace(word, start_ms=start_ms, end_ms=end_ms)


def _shift_cue(cue: Cue, segment: Segment) -> Cue:
    start_ms, end_ms = _absolute(cue.start_ms, cue.end_ms, segment)
    return replace(cue, start_ms=start_ms, end_ms=end_ms)


def _absolute(start_ms: int, end_ms: int, segment: Segment) -> tuple[int, int]:
    start_ms = min(segment.start_ms + max(0, start_ms), segment.end_ms)
    end_ms = min(max(start_ms, segment.start_ms + end_ms), segment.end_ms)
    return start_ms, end_ms
