"""Which spoken numbers of a Chinese text are written in digits, and the words once they are.

What stays in characters matters more than what changes: 一下, 十分, 三五个 and 不管三七二十一 must
survive. So numerals that stand together are one number by its grammar or are left alone, and so
are single digits where they count nothing that is written in digits. Units stay as they were said.

Invariants (tests/core/test_numbers.py): a number becomes one word, from its first word's start to
its last word's end; every other word stays as it is, but for a space beside a foreign one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from deployments.core.types import Word

Convert = Callable[[str], str]  # "三百零五" -> "305"; what it answers is checked

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

NUMERALS = "[零〇一二两三四五六七八九幺十百千万亿]+"
RUN = re.compile(f"{NUMERALS}(?:(?:点|分之){NUMERALS})*")  # numerals that stand together
CLOCK = re.compile(f"({D2}|{TENS})点({TENS}|{ZERO}{D})")
# What a whole run can be: how it is said, and how it looks in digits.
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

# Runs of one or two characters that are numbers only where they stand beside these.
BESIDE = tuple(
    re.compile(pattern)
    for pattern in (
        f"(?:{D}|十)(?=月)",
        f"(?<=月)(?:{D}|十)(?=[号日])",
        f"(?:{D2}|十)(?=点[半钟整])",
        f"(?<=上午|下午|早上|早晨|晚上|凌晨|中午|傍晚|今早|今晚|明早|明晚|昨晚)(?:{D2}|十)(?=点)",
        "十(?=[号日年岁个元块天秒人台次名位张条米倍]|分钟|小时|公里|公斤)",
        "零零(?=[后年])|(?:零[一二三四五六七八九]|八[一二三四五六七八]|九[一二三四五六七八九])(?=年)",
    )
)
# Written in characters by everyone; a longer number of which one is a part is a number.
IDIOMS = re.compile(
    "七七八八|九一八事变|二百五|一千零一夜|三百六十行|十八般|三十六计(?![划算])|三十而立|四十不惑|五十知天命|"
    "五十步笑百步|七十二变|一百零八将|四十大盗|十万火急|十万八千里|十万个为什么|十年(?:树木|寒窗|如一日)|"
    "十月(?:怀胎|革命)|[两三]点一线|五月天(?!气)|七月流火|烟花三月|(?:三月三|二月二)(?![号日十])|"
    "(?:双)?十一(?=国庆|黄金周|假期|长假|小长假|放假|期间|购物)|双十一"
)
COUNTING = "一二三四五六七八九"
MAX_COUNTING = 5  # 一二三 is counting; longer may be a number that happens to ascend
A_LITTLE = frozenset("有早晚快慢多少大小高低好差这那近远轻重强弱长短贵松紧")  # + 一点
NO_SIGN = frozenset("自胜肩背抱欠担辜亏欺正")  # + 负 is a word of its own
LATIN_WORD = re.compile(r"[A-Za-z]{2,}")


@dataclass(frozen=True, slots=True)
class Number:
    """A number in a text, `start` included, `end` not, and how it is said."""

    start: int
    end: int
    kind: str


@dataclass(frozen=True, slots=True)
class Written:
    """A word of the written text, and how many spoken words it stands for."""

    word: Word
    n_words: int = 1


def write_numbers(
    words: Sequence[Word], convert: Convert, cuts: Collection[int] = ()
) -> list[Written]:
    """The words with their numbers in digits; the `n_words` add up to `len(words)`.

    No number crosses `cuts`, the indices of words that begin a segment: one that is said digit by
    digit is written in parts, any other is left. What `convert` raises is raised.
    """
    text, starts, ends = "", {}, {}
    for index, word in enumerate(words):
        text += " " if word.space else ""
        starts[len(text)] = index
        text += word.text
        ends[len(text)] = index + 1
        text += word.mark
    written: list[Written] = []
    at = 0
    for number in find_numbers(text):
        if number.start not in starts or number.end not in ends:
            continue
        for first, end in _parts(starts[number.start], ends[number.end], number.kind, cuts):
            said = "".join(word.text for word in words[first:end])
            digits = _digits(said, number.kind, convert)
            if digits is not None:
                written += [Written(word) for word in words[at:first]]
                written.append(Written(_merged(words[first:end], digits), end - first))
                at = end
    written += [Written(word) for word in words[at:]]
    return _spaced(written)


def _parts(first: int, end: int, kind: str, cuts: Collection[int]) -> list[tuple[int, int]]:
    inner = [cut for cut in range(first + 1, end) if cut in cuts]
    if inner and kind != "digits":
        return []
    return list(zip([first, *inner], [*inner, end], strict=True))


def _digits(said: str, kind: str, convert: Convert) -> str | None:
    """The number in digits; None where `convert` answers something that is none."""
    if kind == "digits" or (len(said) == 1 and said in VALUES):
        return "".join(VALUES[char] for char in said)
    sign, said = ("-", said[1:]) if said[0] == "负" else ("", said)
    digits = convert(said.replace("〇", "零"))
    return sign + digits if WRITTEN[kind].fullmatch(digits) else None


def _merged(words: Sequence[Word], text: str) -> Word:
    return replace(words[0], text=text, end_ms=words[-1].end_ms, mark=words[-1].mark)


def _spaced(written: list[Written]) -> list[Written]:
    for i in range(1, len(written)):
        right = spaced_behind(written[i - 1].word, written[i].word)
        written[i] = replace(written[i], word=right)
    return written


def spaced_behind(left: Word, right: Word) -> Word:
    """The right word, with a space where one of the two is a number and one foreign: iPhone 12."""
    is_number = left.text[-1:].isdigit() or right.text[:1].isdigit()
    is_foreign = LATIN_WORD.match(left.text) or LATIN_WORD.match(right.text)
    return replace(right, space=True) if is_number and is_foreign and not left.mark else right


def find_numbers(text: str) -> list[Number]:
    """The numbers of a text that are written in digits, in order, without overlap."""
    idioms = [match.span() for match in IDIOMS.finditer(text)]
    found: list[Number] = []
    for run in RUN.finditer(text):
        start, end = run.span()
        if not any(first <= start and end <= last for first, last in idioms):
            found += _read(text, run)
    return list(_with_ranges(text, found))


def _read(text: str, run: re.Match[str]) -> Iterator[Number]:
    """The numbers of one run of numerals: one, two of a time of day, or none."""
    said, (start, end) = run[0], run.span()
    before, after = text[max(0, start - 1) : start], text[end : end + 1]
    clock = CLOCK.fullmatch(said)
    if any(pattern.match(text, start) and len(said) <= 2 for pattern in BESIDE):
        yield Number(start, end, "digits" if len(said) == 2 else "cardinal")
    elif clock and (after == "分" or not SAID["decimal"].fullmatch(said)):
        yield Number(start, start + clock.end(1), "cardinal")
        second = "digits" if clock[2][0] in "零〇" else "cardinal"
        yield Number(start + clock.start(2), end, second)
    elif len(said) > 1:
        if said[-1] in "万亿" and not set(said[:-1]) & set("万亿"):
            said, end = said[:-1], end - 1  # 12万, 2.5亿: as they are written
        kind = next((kind for kind in SAID if SAID[kind].fullmatch(said)), None)
        if len(said) == 1 and said in VALUES:
            kind = "cardinal"
        if kind and not _is_vague(said, kind, before, after):
            is_signed = kind != "digits" and before == "负" and text[:start][-2:-1] not in NO_SIGN
            yield Number(start - is_signed, end, kind)


def _is_vague(said: str, kind: str, before: str, after: str) -> bool:
    """Whether what could be a number is none where it stands."""
    match kind:
        case "digits":
            return len(said) <= MAX_COUNTING and said in COUNTING
        case "decimal":
            a_little = said.startswith("一点") and (before in A_LITTLE or said == "一点一")
            return after in ("点", "刻") or a_little
        case "cardinal":
            return after == "几" or (said[0] == "十" and before in ("几", "数", "好"))
    return False


def _with_ranges(text: str, numbers: Sequence[Number]) -> Iterator[Number]:
    """Also the single digit before a number's 到 or 至: 5到10个."""
    at = 0
    for number in numbers:
        digit = text[max(at, number.start - 2) : number.start]
        before = text[max(at, number.start - 3) : max(at, number.start - 2)]
        if (
            number.kind in ("cardinal", "decimal")
            and re.fullmatch("[二两三四五六七八九][到至]", digit)
            and not RUN.fullmatch(before)
        ):
            yield Number(number.start - 2, number.start - 1, "cardinal")
        yield number
        at = number.end
