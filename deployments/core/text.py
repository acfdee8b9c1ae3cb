"""How words and texts are joined: Chinese without spaces, foreign words with spaces."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from deployments.core.types import MarkedWord, Word


def join_words(words: Iterable[Word]) -> str:
    """The words with their marks as running text."""
    return "".join((" " if w.space else "") + w.text + w.mark for w in words).strip()


def join_texts(texts: Iterable[str]) -> str:
    """The pieces as one text, with a space only where both sides of a seam are ASCII."""
    joined = ""
    for text in texts:
        piece = text.strip()
        if joined and piece and joined[-1].isascii() and piece[0].isascii():
            joined += " "
        joined += piece
    return joined


def space_words(words: Sequence[Word]) -> tuple[Word, ...]:
    """The words of several segments in a row, with a space between neighbours in ASCII."""
    return tuple(
        replace(word, space=i > 0 and word.text[:1].isascii() and words[i - 1].text[:1].isascii())
        for i, word in enumerate(words)
    )


def mark_words(words: Sequence[Word], marked: Sequence[MarkedWord]) -> tuple[Word, ...]:
    """The words with the text, mark and spacing that the punctuation engine gave them.

    Words and marked words must correspond one to one. The times do not change.
    """
    assert len(words) == len(marked), (len(words), len(marked))
    return tuple(
        replace(word, text=mark.text, mark=mark.mark, space=mark.space)
        for word, mark in zip(words, marked, strict=True)
    )
