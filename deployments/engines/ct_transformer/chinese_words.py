"""Cuts Chinese text into dictionary words, as FunASR does for the cn-en punctuation model.

FunASR joins all words that are not English and gives the text to jieba (HMM off). jieba finds the
most probable way to divide the text into words of its dictionary. FunASR cuts the whole text at
once. Here a text may arrive in parts, and the result must not depend on how it was split:

- `settled_length` finds the part of a text that later text cannot change. It ends at a boundary
  that no word of the dictionary can cross. Every division of the text has this boundary, so the
  two sides are independent.
- Probabilities are sums of integers, and exact. jieba adds floats from the end of the text.
  Between two equally probable divisions (好好|好 and 好|好好) rounding then decides, and rounding
  depends on all the text that follows. Here the longest first word wins. Only in such ties does
  the result differ from jieba's.
- With exact sums, cutting a part of the text that lies between two tokens gives the same tokens as
  cutting the whole text.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # jieba warns of its regular expressions and of pkg_resources
    import jieba

ENGLISH = re.compile("[a-zA-Z']+")  # as FunASR's isEnglish; digits go to jieba
LOG_SCALE = 2**48  # steps of the integer log-probabilities, finer than jieba's rounding


class ChineseWords:
    """jieba with its own dictionary and a model's, without jieba's global state."""

    def __init__(self, user_dict: Path) -> None:
        """`user_dict` has lines of a word, optionally with its frequency and part of speech.

        Raises OSError or ValueError if it cannot be read.
        """
        self._tokenizer = _ExactTokenizer()
        # The steps that jieba takes on first use, but without its log and without its cache file.
        # That file lies in the temporary directory, where another user may have written it.
        self._tokenizer.FREQ, self._tokenizer.total = self._tokenizer.gen_pfdict(
            self._tokenizer.get_dict_file()
        )
        self._tokenizer.initialized = True
        with user_dict.open("rb") as file:
            self._tokenizer.load_userdict(file)

    @property
    def frequencies(self) -> Mapping[str, int]:
        """How often each word occurs. Beginnings of words are in it too, with 0."""
        frequencies: Mapping[str, int] = self._tokenizer.FREQ
        return frequencies

    def cut(self, words: Sequence[str], *, final: bool = True) -> list[str]:
        """The dictionary words of a text. English words stay as they are; no character is lost.

        With `final=False` more words may follow. Then only the tokens that cannot change are
        returned.
        """
        runs = [(english, list(run)) for english, run in groupby(words, key=is_english)]
        open_run = len(runs) if final else len(runs) - 1
        tokens: list[str] = []
        for i, (english, run) in enumerate(runs):
            if english:
                tokens += run
                continue
            text = "".join(run)
            if i == open_run:
                text = text[: settled_length(text, self.frequencies)]
            tokens += self._tokenizer.cut(text, HMM=False)
        return tokens


class _ExactTokenizer(jieba.Tokenizer):  # type: ignore[misc]
    """jieba's tokenizer, with exact sums in its search for the most probable division."""

    def calc(self, sentence: str, DAG: Mapping[int, list[int]], route: dict[int, Any]) -> None:
        """Fills `route`: at each character the best log-probability, and its first word's end."""
        total = scaled_log(self.total)
        route[len(sentence)] = (0, 0)
        for first in range(len(sentence) - 1, -1, -1):
            route[first] = max(
                (
                    scaled_log(self.FREQ.get(sentence[first : last + 1]) or 1)
                    - total
                    + route[last + 1][0],
                    last,
                )
                for last in DAG[first]
            )


def scaled_log(count: int) -> int:
    return round(math.log(count) * LOG_SCALE)


def is_english(word: str) -> bool:
    return ENGLISH.fullmatch(word) is not None


def settled_length(text: str, frequencies: Mapping[str, int]) -> int:
    """The length of the beginning of `text` whose cut cannot be changed by text that follows.

    `frequencies` holds the words of the dictionary and, with 0, their beginnings. With these it is
    known whether a word that reaches the end of the text may continue.
    """
    settled = reach = 0  # reach: the farthest end of a word that begins before `first`
    for first in range(len(text)):
        joined = first > 0 and is_letter(text[first - 1]) and is_letter(text[first])
        if reach <= first and not joined:
            settled = first
        end = first + 1
        while end <= len(text) and (frequency := frequencies.get(text[first:end])) is not None:
            reach = max(reach, end) if frequency else reach
            end += 1
        if end > len(text):
            return settled
    return settled if is_letter(text[-1:]) else len(text)


def is_letter(character: str) -> bool:
    """Whether jieba joins the character with ASCII letters and digits next to it."""
    return character.isascii() and character.isalnum()
