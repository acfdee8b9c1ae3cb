"""Tidies Chinese text: simplified characters, full-width marks, no stray spaces."""

from __future__ import annotations

import re
import warnings
from functools import cache

import zhconv

HAN = r"\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff〇"
FULL_WIDTH = str.maketrans(",!?:;", "，！？：；")
_WIDE = rf"{HAN}，。！？：；、“”‘’《》（）…—"

_ELLIPSIS = re.compile(r"[.。](?:\s*[.。])+")
_MARK = re.compile(rf"(?<=[{HAN}”’》）])\s*[,!?:;]|[,!?:;](?=\s*(?:[{HAN}“‘《（]|$))")
# A full stop may stand inside numbers and names. So it is only replaced at the end of a word or
# between Chinese characters.
_STOP = re.compile(rf"\s*\.(?!\w)|(?<=[{HAN}])\.(?=[{HAN}])")
_SPACE_BETWEEN = re.compile(rf"(?<=[{_WIDE}])\s+(?=[{_WIDE}])")
_SPACE_AT_MARK = re.compile(r"\s+(?=[，。！？：；、”’》）…])|(?<=[，。！？：；、“‘《（…])\s+")


def printed_chinese(text: str) -> str:
    """The text with simplified characters, full-width marks beside Chinese, and single spaces.

    Spaces between Chinese characters are removed; single spaces stay around foreign words. Marks
    inside numbers and foreign text (`3.5`, `12:30`, `v2.0, beta`) stay as they are.
    """
    return spaced(full_width(simplified(text)))


def simplified(text: str) -> str:
    """The text in simplified characters. Regional words are not replaced."""
    _load_table()
    return str(zhconv.convert(text, "zh-hans"))


@cache
def _load_table() -> None:
    """Reads zhconv's table once. zhconv 1.4.3 leaves the file open, and Python warns of that."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        zhconv.convert("", "zh-hans")


def full_width(text: str) -> str:
    """The text with full-width marks next to Chinese. Text without Chinese stays as it is."""
    if not re.search(f"[{HAN}]", text):
        return text
    text = _ELLIPSIS.sub("……", text)
    text = _MARK.sub(lambda found: found.group().strip().translate(FULL_WIDTH), text)
    return _STOP.sub("。", text)


def spaced(text: str) -> str:
    """The text without spaces between Chinese or at full-width marks; other spaces are single."""
    text = _SPACE_AT_MARK.sub("", _SPACE_BETWEEN.sub("", text))
    return re.sub(r"\s+", " ", text).strip()


def needs_space(left: str, right: str) -> bool:
    """Whether a space belongs between two pieces of text: only between foreign words."""
    pair = left[-1:] + right[:1]
    return len(pair) == 2 and not re.search(rf"[{_WIDE}]", pair)
