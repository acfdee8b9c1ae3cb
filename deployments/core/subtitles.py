"""A transcript as subtitles: short lines with times, written as SRT and WebVTT.

Invariants (tests/core/test_subtitles.py): cues are sorted, do not overlap and lie inside the
recording. A cue is at most MAX_CUE_MS long and MAX_WIDTH wide. The text of all cues, joined, is
that of the transcript, up to white space. What `unbroken` keeps together stands in one cue.
"""

from __future__ import annotations

import html
import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate

from deployments.core.types import Cue, Transcript, TranscriptSegment
from deployments.core.unbroken import unbroken

MAX_WIDTH = 40  # half-widths: 20 Chinese characters, 40 Latin letters
MIN_CUE_MS = 1000
MAX_CUE_MS = 7000
PAUSE_MS = 500  # silence at which a line may end without a mark
LONG_PAUSE_MS = 1000  # silence that should not stand inside a line

STRONG_MARKS = frozenset("。？！；…?!;")
WEAK_MARKS = frozenset("，、：,:.")
CLOSING = "”’）》】」』)]}\"'"  # may stand between a mark and the break

# Costs of a way to cut the text into lines. The way with the least total cost is taken.
LINE_COST = 1.0
WEAK_BREAK_COST = 1.0  # after a comma, at a pause, at the end of a segment
BARE_BREAK_COST = 8.0  # in the middle of a clause
SHORT_LINE_COST = 9.0  # under MIN_CUE_MS on screen; more than to break a clause
INNER_SENTENCE_COST = 3.0  # a sentence ends inside the line
INNER_PAUSE_COST = 4.0
UNEVEN_COST = 0.5  # at most, for an almost empty line

OPENING = re.escape("“‘（《【「『([{<")
LATIN = r"[^\W\u2e80-\uffff]+(?:[.'’\-][^\W\u2e80-\uffff]+)*"
# A Chinese character or a foreign word with the marks that belong to it.
ATOM = re.compile(rf"\s*[{OPENING}]*(?:{LATIN}|\S)[^\w\s{OPENING}]*")
# SRT has no escapes. A space after these keeps players from reading an arrow, tag or override.
SRT_SPECIAL = re.compile(r"--(?=>)|<(?=[a-zA-Z/])|\{(?=\\)")


@dataclass(frozen=True, slots=True)
class _Piece:
    """Text that stays together on one line. `ends_segment` allows a break after it."""

    text: str
    start_ms: int
    end_ms: int
    ends_segment: bool = False


def width_of(text: str) -> int:
    """The width on screen in half-widths: a Chinese character 2, a Latin letter 1."""
    return sum(2 if unicodedata.east_asian_width(c) in "WFA" else 1 for c in text)


def clock(t_ms: int, separator: str) -> str:
    """`t_ms` as hh:mm:ss and milliseconds. Integers keep it from being a millisecond off."""
    s, ms = divmod(t_ms, 1000)
    m, s = divmod(s, 60)
    h, m = divmod(m, 60)
    return f"{h:02d}:{m:02d}:{s:02d}{separator}{ms:03d}"


def _shared(texts: Sequence[str], start_ms: int, end_ms: int) -> list[_Piece]:
    """The texts, with the time divided between them in proportion to their width."""
    sums = [0, *accumulate(width_of(text) for text in texts)]
    times = [start_ms + (end_ms - start_ms) * part // max(sums[-1], 1) for part in sums]
    return [_Piece(text, times[i], times[i + 1]) for i, text in enumerate(texts)]


def _narrow(piece: _Piece) -> list[_Piece]:
    """The piece, cut if it is wider than a line, such as an address or a run of dots."""
    if width_of(piece.text) <= MAX_WIDTH:
        return [piece]
    n = MAX_WIDTH // 2  # characters, which fit even if each is two half-widths
    texts = [piece.text[i : i + n] for i in range(0, len(piece.text), n)]
    return _shared(texts, piece.start_ms, piece.end_ms)


def _same_text(cues: Iterable[Cue], text: str) -> bool:
    return "".join("".join(cue.text for cue in cues).split()) == "".join(text.split())


def _segment_pieces(segment: TranscriptSegment) -> list[_Piece]:
    """Pieces with the times of the words, else of the engine's cues, else by width of the text."""
    if segment.words:
        return [
            _Piece((" " if word.space else "") + word.text + word.mark, word.start_ms, word.end_ms)
            for word in segment.words
        ]
    if not _same_text(segment.cues, segment.text):
        return _shared(ATOM.findall(segment.text), segment.start_ms, segment.end_ms)
    pieces: list[_Piece] = []
    at_ms = segment.start_ms
    for cue in segment.cues:  # the engine's own times may overlap or run over the end
        start_ms = min(max(cue.start_ms, at_ms), segment.end_ms)
        at_ms = min(max(cue.end_ms, start_ms), segment.end_ms)
        pieces += _shared(ATOM.findall(cue.text), start_ms, at_ms)
    return pieces


def _glued(pieces: Sequence[_Piece]) -> list[_Piece]:
    """The pieces, those of one number, word or address made one piece, if a line can hold it."""
    starts = list(accumulate((len(piece.text) for piece in pieces), initial=0))

    def touched(start: int, end: int) -> tuple[int, int]:
        return bisect_right(starts, start) - 1, bisect_left(starts, end)

    def holds(first: int, end: int) -> bool:
        width = sum(width_of(piece.text) for piece in pieces[first:end])
        return width <= MAX_WIDTH and pieces[end - 1].end_ms - pieces[first].start_ms <= MAX_CUE_MS

    text = "".join(piece.text for piece in pieces)
    inner: set[int] = set()  # the pieces that begin no line
    for start, end in unbroken(text, lambda start, end: holds(*touched(start, end))):
        first, last = touched(start, end)
        inner.update(range(first + 1, last))
    glued: list[_Piece] = []
    at = 0
    for end in range(1, len(pieces) + 1):
        if end == len(pieces) or end not in inner or not holds(at, end + 1):
            text = "".join(piece.text for piece in pieces[at:end])
            glued.append(_Piece(text, pieces[at].start_ms, pieces[end - 1].end_ms))
            at = end
    return glued


def _pieces(segments: Iterable[TranscriptSegment]) -> list[_Piece]:
    all_pieces: list[_Piece] = []
    for segment in segments:
        pieces = [part for piece in _segment_pieces(segment) for part in _narrow(piece)]
        pieces = [piece for piece in _glued(pieces) if piece.text.strip()]
        if not pieces:
            continue
        first, last = pieces[0], pieces[-1]
        if first.text[0].isascii():  # words of two segments must not run together
            pieces[0] = _Piece(" " + first.text.lstrip(), first.start_ms, first.end_ms)
            last = pieces[-1]
        pieces[-1] = _Piece(last.text, last.start_ms, last.end_ms, ends_segment=True)
        all_pieces += pieces
    return all_pieces


def _ends_with(piece: _Piece, marks: frozenset[str]) -> bool:
    return piece.text.rstrip(CLOSING)[-1:] in marks


def _break_cost(piece: _Piece, next_start_ms: int) -> float:
    if _ends_with(piece, STRONG_MARKS):
        return 0.0
    is_natural = piece.ends_segment or next_start_ms - piece.end_ms >= PAUSE_MS
    return WEAK_BREAK_COST if is_natural or _ends_with(piece, WEAK_MARKS) else BARE_BREAK_COST


def _lines(pieces: Sequence[_Piece], duration_ms: int) -> list[Sequence[_Piece]]:
    """The pieces cut into lines at the least cost, by dynamic programming over line ends."""
    starts_ms = [*(piece.start_ms for piece in pieces), duration_ms]
    widths = [width_of(piece.text) for piece in pieces]
    best_cost, best_start = [0.0], [0]
    for end in range(1, len(pieces) + 1):
        last = pieces[end - 1]
        end_cost = LINE_COST + _break_cost(last, starts_ms[end])
        width, inner_cost = 0, 0.0
        best_cost.append(float("inf"))
        best_start.append(end - 1)
        for start in range(end - 1, -1, -1):
            first = pieces[start]
            width += widths[start]
            if start < end - 1:
                if width > MAX_WIDTH or last.end_ms - first.start_ms > MAX_CUE_MS:
                    break
                inner_cost += INNER_SENTENCE_COST * _ends_with(first, STRONG_MARKS)
                silence_ms = starts_ms[start + 1] - first.end_ms
                inner_cost += INNER_PAUSE_COST * (silence_ms > LONG_PAUSE_MS)
            shown_ms = max(last.end_ms, starts_ms[end]) - first.start_ms
            cost = best_cost[start] + end_cost + inner_cost
            cost += SHORT_LINE_COST * (shown_ms < MIN_CUE_MS)
            cost += UNEVEN_COST * (1 - width / MAX_WIDTH) ** 2
            if cost < best_cost[end]:
                best_cost[end], best_start[end] = cost, start
    lines: list[Sequence[_Piece]] = []
    end = len(pieces)
    while end > 0:
        lines.append(pieces[best_start[end] : end])
        end = best_start[end]
    return lines[::-1]


def subtitles(transcript: Transcript) -> tuple[Cue, ...]:
    """One cue per line. A cue under MIN_CUE_MS is shown longer if nothing else is said then."""
    lines = _lines(_pieces(transcript.segments), transcript.duration_ms)
    next_starts_ms = [*(line[0].start_ms for line in lines[1:]), transcript.duration_ms]
    cues: list[Cue] = []
    for line, next_start_ms in zip(lines, next_starts_ms, strict=False):
        start_ms, end_ms = line[0].start_ms, line[-1].end_ms
        end_ms = max(end_ms, min(start_ms + MIN_CUE_MS, next_start_ms))
        text = " ".join("".join(piece.text for piece in line).split())
        cues.append(Cue(text, start_ms, min(end_ms, start_ms + MAX_CUE_MS)))
    return tuple(cues)


def srt(transcript: Transcript) -> str:
    """The subtitles as SubRip, with a space in text that players take for an arrow or a tag."""
    return "".join(
        f"{number}\n{clock(cue.start_ms, ',')} --> {clock(cue.end_ms, ',')}\n"
        f"{SRT_SPECIAL.sub(lambda match: match[0] + ' ', cue.text)}\n\n"
        for number, cue in enumerate(subtitles(transcript), start=1)
    )


def vtt(transcript: Transcript) -> str:
    """The subtitles as WebVTT, with its escapes for `&`, `<` and `>`."""
    return "WEBVTT\n\n" + "".join(
        f"{clock(cue.start_ms, '.')} --> {clock(cue.end_ms, '.')}\n"
        f"{html.escape(cue.text, quote=False)}\n\n"
        for cue in subtitles(transcript)
    )


def lrc(transcript: Transcript) -> str:
    """The subtitles as lines of lyrics, each with its start in minutes, seconds, hundredths."""
    lines = []
    for cue in subtitles(transcript):
        minutes, rest_ms = divmod(cue.start_ms, 60_000)
        lines.append(
            f"[{minutes:02d}:{rest_ms // 1000:02d}.{rest_ms % 1000 // 10:02d}]{cue.text}\n"
        )
    return "".join(lines)
