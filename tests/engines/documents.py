"""Documents for a punctuation engine, which are given to it in parts, and the printed text."""

from __future__ import annotations

import random
from collections.abc import Sequence

from deployments.core.types import MarkedWord, PunctuationStep, PunctuationTask
from deployments.engines.protocols import PunctuationEngine


def printed(words: Sequence[MarkedWord]) -> str:
    return "".join((" " if word.space else "") + word.text + word.mark for word in words)


def grown(engine: PunctuationEngine, words: Sequence[str], seed: int) -> str:
    """The printed text of a document whose words come in parts, as PunctuationTask asks."""
    rng = random.Random(seed)
    step, done, unread = PunctuationStep(()), "", tuple(words)
    while unread:
        n_new = rng.randint(0, 30)
        new, unread = unread[:n_new], unread[n_new:]
        task = PunctuationTask(step.pending + new, step.carry, final=not unread)
        (step,) = engine.punctuate([task])
        done += printed(step.done)
        n_left = len(task.carry + task.words) - len(step.done)
        assert len(step.carry + step.pending) == n_left
    assert (step.carry, step.pending) == ((), ())
    return done
