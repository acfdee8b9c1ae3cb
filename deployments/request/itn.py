"""Inverse text normalisation: spoken numbers written in digits, 三百零五 -> 305.

`core/numbers/` finds the numbers, and wetext's transducers (WeTextProcessing) convert them.
wetext does not get whole sentences, for two reasons. It would also write 四十秒 as 40s,
下午三点半 as 03:30p.m. and 两百六十八万五千元 as ¥268万5000. And it would take 120 ms for 1000
characters instead of 10 ms (measured, wetext 0.1.8).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection, Sequence
from functools import cache, lru_cache

from deployments.core.numbers.write import Convert, Written, write_numbers
from deployments.core.types import EngineInfo, Word

logger = logging.getLogger("ray.serve")

N_REMEMBERED = 4096
_one_at_a_time = threading.Lock()  # wetext does not promise that threads may share it


def has_effect(engine: EngineInfo) -> bool:
    """Whether the engine writes numbers as they are spoken, in words with times."""
    return engine.has_word_times and not engine.punctuates


@cache
def _library() -> Convert:
    """The Chinese converter of wetext. Loaded on first use, because it takes 0.3 s and 42 MiB."""
    from wetext import Normalizer

    normalizer = Normalizer(lang="zh", operator="itn")

    def convert(said: str) -> str:
        written: str = normalizer.normalize(said)
        return written.replace(" ", "")  # wetext groups the digits of a possible telephone number

    return convert


@lru_cache(N_REMEMBERED)
def read_number(said: str) -> str:
    """A spoken number in digits, such as "305", "12.5", "35%", "2/3" or "268万5000"."""
    with _one_at_a_time:
        return _library()(said)


def normalise(
    words: Sequence[Word], cuts: Collection[int], convert: Convert = read_number
) -> tuple[list[Written], str | None]:
    """The words with numbers in digits (see `write_numbers`), and None.

    If the library fails: the words as they are, and the name of the error. A transcript in spoken
    words is worth more than none.
    """
    try:
        return write_numbers(words, convert, cuts), None
    except Exception as error:
        logger.warning("A sentence keeps its spoken numbers.", exc_info=error)
        return [Written(word) for word in words], type(error).__name__
