"""A document that is punctuated while it grows (DESIGN, Punctuation).

The marks must not depend on when the words arrive. So words are held back until the engine can
read them as it would read the whole document (see `PunctuationTask`).
"""

from __future__ import annotations

from collections.abc import Sequence

from deployments.core.text import mark_words
from deployments.core.types import PunctuationStep, PunctuationTask, Word


class GrowingDocument:
    """Feeds words to a punctuation engine step by step and gives marked words back, in order."""

    def __init__(self) -> None:
        self._unfinished: list[Word] = []  # the carry, then the pending words, with their times
        self._carry: tuple[str, ...] = ()
        self._pending: tuple[str, ...] = ()

    def task(self, words: Sequence[Word], *, final: bool) -> PunctuationTask:
        """The next step, with `words` added. Pass its result to `absorb` before the next task."""
        self._unfinished.extend(words)
        self._pending += tuple(word.text for word in words)
        return PunctuationTask(words=self._pending, carry=self._carry, final=final)

    def absorb(self, step: PunctuationStep) -> tuple[Word, ...]:
        """The words of whole sentences, with their marks. They are final."""
        n_done = len(step.done)
        done, self._unfinished = self._unfinished[:n_done], self._unfinished[n_done:]
        self._carry, self._pending = step.carry, step.pending
        assert len(self._unfinished) == len(step.carry) + len(step.pending)
        return mark_words(done, step.done)
