"""Writes the spoken numbers of a text in digits.

Invariants (tests/core/test_numbers.py): a number becomes one word, from the start of its first
word to the end of its last. Every other word stays as it is, except that a space may be added
between a number and a foreign word. The numbers of one expression are all written, or none is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

from deployments.core.numbers.expressions import find_expressions
from deployments.core.numbers.grammar import VALUES, WRITTEN
from deployments.core.types import Word

Convert = Callable[[str], str]  # "三百零五" -> "305"; its answer is checked

LATIN_WORD = re.compile(r"[A-Za-z]{2,}")


@dataclass(frozen=True, slots=True)
class Written:
    """A word of the written text, and how many spoken words it stands for."""

    word: Word
    n_words: int = 1


def write_numbers(
    words: Sequence[Word], convert: Convert, cuts: Collection[int] = ()
) -> list[Written]:
    """The words with their numbers in digits. The `n_words` add up to `len(words)`.

    `cuts` are the indices of words that begin a segment, and no written number crosses one. A
    number spoken digit by digit is written in parts; any other stays in characters. Raises what
    `convert` raises.
    """
    text, starts, ends = "", {}, {}
    for index, word in enumerate(words):
        text += " " if word.space else ""
        starts[len(text)] = index
        text += word.text
        ends[len(text)] = index + 1
        text += word.mark
    written: list[Written] = []
    at = 0
    for numbers in find_expressions(text):
        spans = [(starts.get(one.start), ends.get(one.end), one.kind) for one in numbers]
        for first, end, digits in _all_or_none(words, spans, convert, cuts):
            written += [Written(word) for word in words[at:first]]
            written.append(Written(_merged(words[first:end], digits), end - first))
            at = end
    written += [Written(word) for word in words[at:]]
    return _spaced(written)


def _all_or_none(
    words: Sequence[Word],
    spans: Sequence[tuple[int | None, int | None, str]],
    convert: Convert,
    cuts: Collection[int],
) -> list[tuple[int, int, str]]:
    """The numbers of one expression, each with its first word, the one after its last, its digits.

    Empty if one of them cannot be written.
    """
    done: list[tuple[int, int, str]] = []
    for first, end, kind in spans:
        parts = [] if first is None or end is None else _parts(first, end, kind, cuts)
        for start, stop in parts:
            said = "".join(word.text for word in words[start:stop])
            digits = _digits(said, kind, convert)
            if digits is None:
                return []
            done.append((start, stop, digits))
        if not parts:
            return []
    return done


def _parts(first: int, end: int, kind: str, cuts: Collection[int]) -> list[tuple[int, int]]:
    inner = [cut for cut in range(first + 1, end) if cut in cuts]
    if inner and kind != "digits":
        return []
    return list(zip([first, *inner], [*inner, end], strict=True))


def _digits(said: str, kind: str, convert: Convert) -> str | None:
    """The number in digits. None if the answer of `convert` is not a number of this kind."""
    if kind == "digits":
        return "".join(VALUES[char] for char in said)
    sign, said = ("-", said[1:]) if said[0] == "负" else ("", said)
    if kind == "percent" and not said.startswith("百分之"):
        said = "百分之" + said  # the second number of 百分之三到五
    if kind == "cardinal" and said in VALUES:
        return sign + VALUES[said]
    digits = convert(said.replace("〇", "零"))
    return sign + digits if WRITTEN[kind].fullmatch(digits) else None


def _merged(words: Sequence[Word], text: str) -> Word:
    return replace(words[0], text=text, end_ms=words[-1].end_ms, mark=words[-1].mark)


def _spaced(written: list[Written]) -> list[Written]:
    for i in range(1, len(written)):
        right = spaced_behind(written[i - 1].word, written[i].word)
        written[i] = replace(written[i], word=right)
    return written


def spaced_behind(left: Word, right: Word) -> Word:
    """The right word, with a space between a number and a foreign word, as in iPhone 12."""
    is_number = left.text[-1:].isdigit() or right.text[:1].isdigit()
    is_foreign = LATIN_WORD.match(left.text) or LATIN_WORD.match(right.text)
    return replace(right, space=True) if is_number and is_foreign and not left.mark else right
