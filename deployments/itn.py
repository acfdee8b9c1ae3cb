"""Inverse text normalisation: spoken numbers written in digits, 三百零五 -> 305.

`core/numbers.py` finds the numbers, wetext's transducers (WeTextProcessing) read them. Whole
sentences are not given to wetext: it also writes 四十秒 as 40s, 下午三点半 as 03:30p.m. and
两百六十八万五千元 as ¥268万5000, and takes 120 ms for 1000 characters against 10 (measured, wetext
0.1.8).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection, Sequence
from functools import cache, lru_cache

from deployments.core.numbers import Convert, Written, write_numbers
from deployments.core.types import EngineInfo, Word

logger = logging.getLogger("ray.serve")

N_REMEMBERED = 4096
_one_at_a_time = threading.Lock()  # the library does not say that its transducers may be shared


def has_effect(engine: EngineInfo) -> bool:
    """Whether the engine's text has numbers as they are said, in words with times."""
    return engine.has_word_times and not engine.punctuates


@cache
def _library() -> Convert:
    """wetext's Chinese reader; loading takes 0.3 s and 42 MiB: not before it is asked for."""
    from wetext import Normalizer

    normalizer = Normalizer(lang="zh", operator="itn")

    def convert(said: str) -> str:
        written: str = normalizer.normalize(said)
        return written.replace(" ", "")  # it groups the digits of what may be a telephone number

    return convert


@lru_cache(N_REMEMBERED)
def read_number(said: str) -> str:
    """A spoken number in digits, such as "305", "12.5", "35%", "2/3" or "268万5000"."""
    with _one_at_a_time:
        return _library()(said)


def normalise(
    words: Sequence[Word], cuts: Collection[int], convert: Convert = read_number
) -> tuple[list[Written], str | None]:
    """The words with numbers in digits, see `write_numbers`; where that fails as they are, and why.

    A transcript in spoken words is worth more than none: no failure of the library is an error.
    """
    try:
        return write_numbers(words, convert, cuts), None
    except Exception as error:
        logger.warning("A sentence keeps its spoken numbers.", exc_info=error)
        return [Written(word) for word in words], type(error).__name__
