"""Chinese text in dictionary words, as FunASR cuts it for the cn-en punctuation model.

FunASR joins what is not English and has jieba cut it (HMM off): of all ways to divide the text
into words of the dictionary, the most probable one. It cuts the whole text at once; here a text
may come in bits, and no cut depends on how it came:

- `settled_length` says how far more text cannot change the cut: up to a boundary which no word of
  the dictionary can reach over. Every way to divide the text passes it, so the two sides are
  independent.
- Probabilities are exact integers. jieba adds floats from the end of the text, so between two
  equally probable ways (好好|好 and 好|好好) rounding decides, and with it all the text behind;
  here the longest first word wins. Only in such ties does the cut differ from jieba's. Exact sums
  also make the cut of a part, taken between two tokens, the part of the cut.
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
    warnings.simplefilter("ignore")  # jieba: escapes in its regular expressions, pkg_resources
    import jieba

ENGLISH = re.compile("[a-zA-Z']+")  # FunASR's isEnglish; digits go to jieba
LOG_SCALE = 2**48  # a unit of the integer log-probabilities is below the rounding of jieba's


class ChineseWords:
    """jieba with its own dictionary and a model's, in an object of its own: no global state."""

    def __init__(self, user_dict: Path) -> None:
        """`user_dict` has lines of a word and, perhaps, its frequency and its kind.

        Raises OSError or ValueError where it cannot be read.
        """
        self._tokenizer = _ExactTokenizer()
        # What jieba does on first use, without its log and its cache file in the temporary
        # directory, which another user may have written.
        self._tokenizer.FREQ, self._tokenizer.total = self._tokenizer.gen_pfdict(
            self._tokenizer.get_dict_file()
        )
        self._tokenizer.initialized = True
        with user_dict.open("rb") as file:
            self._tokenizer.load_userdict(file)

    @property
    def frequencies(self) -> Mapping[str, int]:
        """How often each word occurs; the beginnings of words are there too, with 0."""
        frequencies: Mapping[str, int] = self._tokenizer.FREQ
        return frequencies

    def cut(self, words: Sequence[str], *, final: bool = True) -> list[str]:
        """The tokens of the words, which joined are the words joined; English words stay as is.

        With `final=False` more words may follow: only those tokens that will not change.
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
    """jieba's tokenizer with exact sums in its search for the most probable way."""

    def calc(self, sentence: str, DAG: Mapping[int, list[int]], route: dict[int, Any]) -> None:
        """Fills `route`: at each character the best log-probability from here, the word's end."""
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
    """How many characters are cut the same, and apart from the rest, whatever text follows.

    `frequencies` holds the words of the dictionary and, with 0, their beginnings: a word that
    is not over at the end of the text may go on in what follows.
    """
    settled = reach = 0  # reach: where the farthest word that begins before `first` ends
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
    """Whether jieba joins it to a letter or digit beside it where neither is in a longer word."""
    return character.isascii() and character.isalnum()
