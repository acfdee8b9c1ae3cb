"""FunASR's step algorithm over one text: which words are read together, and several such at once.

A text is read in pieces of so many tokens, each behind the unfinished sentence before it. What a
step finds depends on two numbers alone, the piece and the token where that sentence begins (a
`Place`). So a long text is read from several places at once: a reader begins at a later piece as
if a sentence began there, and from the first sentence end that it shares with the readers behind
it their places are the same. Its steps are used from there on, and only from there: the places
used are those that reading from the beginning passes through, so the marks are the same ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

MAX_CARRY_WORDS = 200  # cache_pop_trigger_limit: a longer sentence is cut at a comma
# Every step reads the unfinished sentence again, so one that never ends costs the square of its
# length (an hour without a mark: minutes, and gigabytes). No speech is like that; noise may be.
MAX_UNMARKED_WORDS = 2000
# Pieces of a reader, at the least: it may read two or three that are not used.
MIN_READER_PIECES = 8
NO_MARK, COMMA, STOP, QUESTION, LIST_COMMA = "_", "，", "。", "？", "、"


class Place(NamedTuple):
    """A step: the number of the piece, and the token where the unfinished sentence begins."""

    piece: int
    begin: int


class Found(NamedTuple):
    """What a step found: how many of its tokens are done, and the marks behind all of them."""

    n_done: int
    marks: list[str]


@dataclass(slots=True)
class _Reader:
    place: Place
    n_pieces: float  # it may still read; a reader that never meets another is stopped


@dataclass(slots=True)
class Pieces:
    """The pieces of a text of `n_tokens`, of which the first `n_carry` have been read before."""

    n_carry: int
    n_tokens: int
    final: bool
    piece_words: int
    sentence_end: str  # the mark that a comma becomes where a sentence is too long
    found: dict[Place, Found] = field(default_factory=dict)
    _readers: list[_Reader] = field(default_factory=list)
    _next: Place = field(default_factory=lambda: Place(0, 0))

    def __len__(self) -> int:
        """How many can be read: a full piece waits until more follows it, for FunASR treats the
        last piece otherwise."""
        n_new = self.n_tokens - self.n_carry
        if self.final:
            return max(-(-n_new // self.piece_words), int(self.n_tokens > 0))
        return max(n_new - 1, 0) // self.piece_words

    def end(self, place: Place) -> int:
        """Where the piece ends; its step reads the tokens from `place.begin` to here."""
        return min(self.n_carry + (place.piece + 1) * self.piece_words, self.n_tokens)

    def share(self, n_readers: int) -> None:
        """Sets readers to work, at most so many, at even distances."""
        n = max(1, min(n_readers, len(self) // MIN_READER_PIECES))
        each = -(-len(self) // n)
        later = (Place(i * each, self.n_carry + i * each * self.piece_words) for i in range(1, n))
        self._readers = [_Reader(place, 2 * each) for place in later]

    def wanted(self) -> list[Place]:
        """The steps to take now; none where every step that counts has been taken."""
        if (frontier := self._frontier()) is not None and not any(
            reader.place == frontier for reader in self._readers
        ):
            self._readers.append(_Reader(frontier, float("inf")))
        elif frontier is None:
            self._readers = []
        return [reader.place for reader in self._readers]

    def take(self, place: Place, marks: list[str]) -> None:
        """The marks that the network set in a step that was wanted."""
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
        """The steps in the order of the text, as far as they have been taken."""
        place = Place(0, 0)
        while place in self.found:
            step = self.found[place]
            yield place, step
            place = following(place, step)

    def _frontier(self) -> Place | None:
        """The first step that counts and has not been taken."""
        while (step := self.found.get(self._next)) is not None:
            self._next = following(self._next, step)
        return self._next if self._next.piece < len(self) else None


def following(place: Place, step: Found) -> Place:
    """Where the text is read after this step."""
    return Place(place.piece + 1, place.begin + step.n_done)


def cut_sentences(marks: list[str], sentence_end: str) -> Found:
    """How many words are done, and the marks.

    Done is up to the last full stop, not counting the last word and the first two; in a sentence
    of over MAX_CARRY_WORDS words the last comma becomes a full stop. One of over
    MAX_UNMARKED_WORDS without any mark ends there, which FunASR does not do.
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
