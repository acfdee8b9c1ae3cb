"""How far two readings of the same segments agree: in words, times and characters."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import SequenceMatcher

from deployments.engines.paraformer.readings import Reading


def in_batches(count: int, n: int) -> list[list[int]]:
    """The indices in order, `n` at a time."""
    return [list(range(count))[at : at + n] for at in range(0, count, n)]


def time_agreement(
    found: Sequence[Reading], expected: Sequence[Reading], *, within_ms: int
) -> float:
    """The part of the words that both readings have, with times at most `within_ms` apart."""
    agreed = total = 0
    for a, b in zip(found, expected, strict=True):
        matcher = SequenceMatcher(None, a.texts, b.texts, autojunk=False)
        for block in matcher.get_matching_blocks():
            ours = a.times_ms[block.a : block.a + block.size]
            theirs = b.times_ms[block.b : block.b + block.size]
            agreed += sum(
                abs(x[0] - y[0]) <= within_ms and abs(x[1] - y[1]) <= within_ms
                for x, y in zip(ours, theirs, strict=True)
            )
        total += max(len(a.texts), len(b.texts))
    return agreed / max(1, total)


def agreement(found: Sequence[Reading], expected: Sequence[Reading]) -> float:
    """The part of the words that two readings share in the same order; 1 is all of them."""
    shared = total = 0
    for a, b in zip(found, expected, strict=True):
        matcher = SequenceMatcher(None, a.texts, b.texts, autojunk=False)
        shared += 2 * sum(block.size for block in matcher.get_matching_blocks())
        total += len(a.texts) + len(b.texts)
    return shared / max(1, total)


def characters_agree(texts: Sequence[str], expected: Sequence[Reading]) -> float:
    """The part of the Chinese characters that a rival shares with FunASR in float32.

    Rivals write foreign words in ways of their own, so those are left out.
    """
    theirs = [Reading(tuple(c for c in text if not c.isascii())) for text in texts]
    ours = [Reading(tuple(c for c in "".join(r.texts) if not c.isascii())) for r in expected]
    return agreement(theirs, ours)
