"""FunASR's step algorithm over one text, read by several readers from several places at once.

A text is read in pieces with a fixed number of tokens. A step reads one piece together with the
unfinished sentence before it. So the result of a step depends on two numbers alone: the piece, and
the token at which that sentence begins. The two are called a `Place`.

A long text is therefore read from several places at once. A reader starts at a later piece as if a
sentence began there. Then an earlier reader comes to the same pieces. From the first sentence end
that both find, the places of both are the same. The later reader's steps count from this place on,
and only from there. So the steps that count are exactly those of one reader from the beginning, and
so are the marks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

MAX_CARRY_WORDS = 200  # FunASR's cache_pop_trigger_limit: a longer sentence ends at a comma
# Every step reads the unfinished sentence again, so the cost of a sentence grows with the square of
# its length. An hour without a mark would take minutes and gigabytes. Speech is never like that,
# but noise may be.
MAX_UNMARKED_WORDS = 2000
# The least number of pieces for a reader. The first two or three of them may not count.
MIN_READER_PIECES = 8
NO_MARK, COMMA, STOP, QUESTION, LIST_COMMA = "_", "，", "。", "？", "、"


class Place(NamedTuple):
    """Identifies a step: its piece, and the token at which the unfinished sentence begins."""

    piece: int
    begin: int


class Found(NamedTuple):
    """The result of a step: how many of its tokens are done, and the mark after each token."""

    n_done: int
    marks: list[str]


@dataclass(slots=True)
class _Reader:
    place: Place
    n_pieces: float  # how many it may still read; the bound stops a reader that meets no other


@dataclass(slots=True)
class Pieces:
    """The pieces of a text of `n_tokens`. The first `n_carry` were read in an earlier call."""

    n_carry: int
    n_tokens: int
    final: bool
    piece_words: int
    sentence_end: str  # replaces a comma in a sentence that is too long
    found: dict[Place, Found] = field(default_factory=dict)
    _readers: list[_Reader] = field(default_factory=list)
    _next: Place = field(default_factory=lambda: Place(0, 0))

    def __len__(self) -> int:
        """The number of pieces that can be read.

        Unless the text is final, a full piece at its end waits for more text, because FunASR
        treats the last piece differently.
        """
        n_new = self.n_tokens - self.n_carry
        if self.final:
            return max(-(-n_new // self.piece_words), int(self.n_tokens > 0))
        return max(n_new - 1, 0) // self.piece_words

    def end(self, place: Place) -> int:
        """The end of the piece. Its step reads the tokens from `place.begin` to this end."""
        return min(self.n_carry + (place.piece + 1) * self.piece_words, self.n_tokens)

    def share(self, n_readers: int) -> None:
        """Places up to `n_readers` readers at even distances."""
        n = max(1, min(n_readers, len(self) // MIN_READER_PIECES))
        each = -(-len(self) // n)
        later = (Place(i * each, self.n_carry + i * each * self.piece_words) for i in range(1, n))
        self._readers = [_Reader(place, 2 * each) for place in later]

    def wanted(self) -> list[Place]:
        """The steps to compute next; empty once every step that counts was computed."""
        if (frontier := self._frontier()) is not None and not any(
            reader.place == frontier for reader in self._readers
        ):
            self._readers.append(_Reader(frontier, float("inf")))
        elif frontier is None:
            self._readers = []
        return [reader.place for reader in self._readers]

    def record(self, place: Place, marks: list[str]) -> None:
        """Records the marks that the network gave for one of the `wanted` steps."""
        last = self.final and place.piece == len(self) - 1
        step = Found(len(marks), marks) if last else cut_sentences(marks, self.sentence_end)
        self.found[place] = step
        then = following(place, step)
        known = {reader.place for reader in self._readers} | self.found.keys()
        for reader in [reader for reader in self._readers if reader.place == place]:
            reader.place, reader.n_pieces = then, reader.n_pieces - 1
            unread = self.end(place) - then.begin
            lost = reader.n_pieces < 1 or (
                reader.n_pieces < float("inf") and unread > MAX_CARRY_WORDS
            )
            if then.piece >= len(self) or then in known or lost:
                self._readers.remove(reader)

    def path(self) -> Iterator[tuple[Place, Found]]:
        """The steps that count, in the order of the text, as far as they were computed."""
        place = Place(0, 0)
        while place in self.found:
            step = self.found[place]
            yield place, step
            place = following(place, step)

    def _frontier(self) -> Place | None:
        """The first step that counts and was not computed yet; None at the end of the text."""
        while (step := self.found.get(self._next)) is not None:
            self._next = following(self._next, step)
        return self._next if self._next.piece < len(self) else None


def following(place: Place, step: Found) -> Place:
    """The place of the step after this one."""
    return Place(place.piece + 1, place.begin + step.n_done)


def cut_sentences(marks: list[str], sentence_end: str) -> Found:
    """The result of a step that is not the text's last, from the marks of the network.

    Tokens are done up to the last full stop or question mark. Marks after the last token and after
    the first two do not count. In a sentence of over MAX_CARRY_WORDS the last comma becomes a full
    stop. A sentence of over MAX_UNMARKED_WORDS without any mark ends there, unlike in FunASR.
    """
    inner = range(len(marks) - 2, 1, -1)
    for i in inner:
        if marks[i] in (STOP, QUESTION):
            return Found(i + 1, marks)
    if len(marks) <= MAX_CARRY_WORDS:
        return Found(0, marks)
    comma = next((i for i in inner if marks[i] == COMMA), None)
    if comma is None and len(marks) > MAX_UNMARKED_WORDS:
        comma = len(marks) - 2
    if comma is None:
        return Found(0, marks)
    return Found(comma + 1, [*marks[:comma], sentence_end, *marks[comma + 1 :]])
