"""What a run of Chinese numerals can be as a whole: a cardinal, a decimal, digits, a percentage."""

from __future__ import annotations

import re

NUMERAL = "[零〇一二两三四五六七八九幺十百千万亿]"
D, D2, ZERO = "[一二三四五六七八九]", "[一二两三四五六七八九]", "[零〇]"
TENS = f"(?:{D}?十{D}?)"
HUNDREDS = f"(?:{D2}百(?:{ZERO}{D}|{D}十{D}?)?)"
THOUSANDS = f"(?:{D2}千(?:{ZERO}{D}|{ZERO}{D}十{D}?|{HUNDREDS})?)"
BELOW_WAN = f"(?:{THOUSANDS}|{HUNDREDS}|{TENS})"
AFTER_ZERO = f"(?:{ZERO}(?:{BELOW_WAN}|{D}))"
WAN = f"(?:(?:{BELOW_WAN}|{D2})万(?:{THOUSANDS}|{AFTER_ZERO})?)"
YI = f"(?:(?:{BELOW_WAN}|{D2})亿(?:{ZERO}?{WAN}|{THOUSANDS}|{AFTER_ZERO})?)"
CARDINAL = f"(?:{YI}|{WAN}|{BELOW_WAN})"
DECIMAL = f"(?:(?:{CARDINAL}|{D2}|{ZERO})点(?:{D}|{ZERO})+)"

RUN = re.compile(f"{NUMERAL}+(?:(?:点|分之){NUMERAL}+)*")  # a run of numerals
CLOCK = re.compile(f"({D2}|{TENS}|{ZERO})点({TENS}|{ZERO}{D}|{D})")
# The kinds of number that a whole run can be: as spoken, and as written in digits.
KINDS = {
    "digits": (f"(?:{D}|{ZERO}|幺){{3,}}|{D}{ZERO}", r"\d+"),
    "cardinal": (f"{CARDINAL}|{D2}[百千万]{D}", r"\d+|(?=\d)(?:\d+亿)?(?:\d+万)?\d{0,4}"),
    "decimal": (DECIMAL, r"(?:\d+亿)?(?:\d+万)?\d+\.\d+"),
    "percent": (f"百分之(?:{DECIMAL}|{CARDINAL}|{D}|百|{ZERO})", r"\d+(?:\.\d+)?%"),
    "fraction": (f"(?:{CARDINAL}|{D})分之(?:{CARDINAL}|{D})", r"\d+/\d+"),
}
SAID = {kind: re.compile(said) for kind, (said, _) in KINDS.items()}
WRITTEN = {kind: re.compile(written) for kind, (_, written) in KINDS.items()}
VALUES = {char: str(value) for value, char in enumerate("零一二三四五六七八九")}
VALUES |= {"〇": "0", "两": "2", "幺": "1"}


def kind_of(said: str) -> str | None:
    """The kind of number that all of a run is. None if it is no number, such as 三五 or 十五六."""
    return next((kind for kind in SAID if SAID[kind].fullmatch(said)), None)


def without_magnitude(said: str) -> str:
    """The run without 万, 亿 or 万亿 at its end, if it has no other: 十二万 -> 十二."""
    bare = said.rstrip("万亿")
    is_written = said[len(bare) :] in ("万", "亿", "万亿") and not set(bare) & set("万亿")
    return bare if is_written and bare else said
