"""Which of the served languages a request means, by code, by name or by a list of them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache

from langcodes import Language, find, standardize_tag

# What programs send for "find out yourself". `und` and `mul` are ISO 639-2's own codes for it.
NOT_SENT = ("auto", "detect", "und", "mul", "null", "none", "undefined")
# Names of Mandarin that the table of langcodes lacks; 中文, 普通话, Mandarin and others it has.
MANDARIN = (
    "汉语",
    "漢語",
    "普通話",
    "国语",
    "國語",
    "华语",
    "華語",
    "官话",
    "官話",
    "中国话",
    "cn",
)
MAX_CHARS = 1000  # of all the names together


def served_language(asked: str, served: Sequence[str]) -> str | None:
    """The code in `served` that a request means. None if the request leaves it to the model.

    `asked` is a code of ISO 639 or BCP 47 or a name in any language, or several of them with
    commas. Of several, the first of `served` is taken if it is among them.
    Raises LookupError if none is served.
    """
    text = unicodedata.normalize("NFKC", asked[:MAX_CHARS]).lower()
    names = [name.strip() for name in re.split("[,;|、]", re.sub(r"\(.*?\)", " ", text))]
    names = [name for name in names if name]
    if not names or set(names) & set(NOT_SENT):
        return None
    read = [code for name in names if (code := _served(name, served))]
    if not read:
        raise LookupError(asked)
    return served[0] if served[0] in read else read[0]


def _served(name: str, served: Sequence[str]) -> str | None:
    """The code in `served`, which may be an older code of the same language, such as jw for jv."""
    if name in served:
        return name
    code = _code(name)
    return next((known for known in served if code and _code(known) == code), None)


@lru_cache(maxsize=1024)
def _code(name: str) -> str | None:
    """The shortest code of the language, where Mandarin counts as Chinese. None if unknown."""
    if name in MANDARIN:
        return "zh"
    tag = re.split(r"[.@]", name)[0]  # zh_CN.UTF-8, as in LANG
    with suppress(ValueError):  # a name rather than a tag
        return Language.get(standardize_tag(tag, macro=True)).language
    try:
        return Language.get(standardize_tag(find(name), macro=True)).language
    except (LookupError, ValueError, SystemError):  # SystemError: marisa-trie on some odd texts
        return None
