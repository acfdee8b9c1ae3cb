"""Expressions of several numbers, each written in digits as a whole or not at all.

五到十号, 十五块八, 一小时二十分钟 and 十乘二十毫米 are one expression each. If one of its numbers
is written in digits, all are. If one is no exact number, as in 十几到二十个, none is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

from deployments.core.numbers.contexts import DAY_PART
from deployments.core.numbers.fixed import fixed_spans
from deployments.core.numbers.grammar import NUMERAL, RUN, D
from deployments.core.numbers.runs import Number, Run, read_run

MAX_GAP = 9  # characters between two numbers of one expression
OTHER = f"(?:(?!{NUMERAL})[^\\s，。！？；：、])"  # a character of a unit
VAGUE = "[几多余来]?"
PREFIX = "(?:第|零下|负|下个?月|次月|次日|第二天|明年)?"
TO = "(?:[升降涨跌增减提]|提高|上升|下降|上涨|下跌|增加|减少|一直)?[到至]"
# 十到二十, 十乘二十, 十五加六等于二十一, 十、二十
JOINED = re.compile(
    f"{VAGUE}(?:{TO}|乘以?|比|或者?|、|加上?|减去?|除以|(?:大?约)?等于|大于|小于){PREFIX}(?:好?几)?|几"
)
# 五号到十号, 三岁到十二岁: the unit stands behind both.
SAME_UNIT = re.compile(f"{VAGUE}({OTHER}{{1,3}}?)(?:{TO}|或者?|和|与|跟|、){PREFIX}(?:好?几)?")
# 三点半到五点, 九点到晚上十二点
CLOCKS = re.compile(f"(?:点[半整钟多]?|刻|分)(?:到|至|或者?|和|、)(?:第二天|次日|当天)?{DAY_PART}?")
# A unit, and the smaller one that may follow: 五分三十秒, 三十八斤五两.
SMALLER = tuple(
    (re.compile(larger), re.compile(smaller))
    for larger, smaller in (
        ("[块元]钱?零?", "[毛角分]"),
        ("[毛角]", "分(?!钟)"),
        ("个?(?:小时|钟头)零?", "分"),
        ("分钟?零?", "秒"),
        ("年零", "个多?月|天"),
        ("个?月零|天零", "天|个?小时"),
        ("公斤零?|千克零?", "克"),
        ("斤零?", "两"),
        ("米零?", "厘米|公分"),
    )
)
# 两分三十秒到三分钟, 三块到二十: units of one family on both sides, or one on the left.
FAMILIES = tuple(
    (re.compile(f"{VAGUE}(?:{units}){TO}{PREFIX}(?:好?几)?"), re.compile(units))
    for units in (
        "年|个?月|个?星期|周|天|个?小时|个?钟头|分钟?|秒钟?",
        "块钱?|元|毛|角",
        "公斤|斤|千克|克|吨",
        "毫米|厘米|公分|千米|公里|米",
    )
)
# 十五块八, 三十八度五, 一米八零: digits without a unit that ends the expression.
LAST_DIGIT = re.compile("[块元毛角度米]")
ENDS = re.compile(
    "$|[\\s，。！？；、的了吧吗呢啊呀嘛就都也才是到至左以和长高宽深厚起每卖买全]|钱|包邮|上下|到手|成交|一[斤个张只件条]"
)
# 两到三百 is 200 to 300, 五到六十 may be 50 to 60.
ROUND = re.compile("([一二两三四五六七八九])([十百千])(?:万亿|万|亿)?")
ORDER = {char: value for value, char in enumerate("零一二三四五六七八九")} | {"两": 2}


def find_expressions(text: str) -> Iterator[tuple[Number, ...]]:
    """The expressions whose numbers are written in digits, in order and without overlap."""
    runs = list(_runs(text))
    at = 0
    for end in range(1, len(runs) + 1):
        if end == len(runs) or not _is_linked(text, runs[end - 1], runs[end]):
            if numbers := _numbers_of(text, runs[at:end]):
                yield numbers
            at = end


def _runs(text: str) -> Iterator[Run]:
    """The runs of numerals that stand in no fixed word, in order."""
    fixed, fixed_to = fixed_spans(text), 0
    for run in RUN.finditer(text):
        while fixed and fixed[-1][0] <= run.start():
            fixed_to = max(fixed_to, fixed.pop()[1])
        is_below_zero = run[0] == "零" and text.startswith("下", run.end())
        if run.end() > fixed_to and not is_below_zero:
            yield read_run(text, *run.span())


def _numbers_of(text: str, runs: Sequence[Run]) -> tuple[Number, ...]:
    """The numbers of linked runs. None if a run is vague, or if no run is a number by itself."""
    if not any(run.numbers for run in runs) or any(run.is_vague for run in runs):
        return ()
    if any(_shares_hundreds(text, left, right) for left, right in pairwise(runs)):
        return ()
    numbers: list[Number] = []
    for run in runs:
        found = run.numbers or ((run.may_be,) if run.may_be else ())
        for number in found:
            is_share = bool(numbers) and numbers[-1].kind == "percent"
            if is_share and number.kind == "cardinal" and text[numbers[-1].end] in "到至":
                number = replace(number, kind="percent")
            numbers.append(number)
    return tuple(numbers)


def _is_linked(text: str, left: Run, right: Run) -> bool:
    """Whether two neighbouring runs belong to one expression."""
    gap, behind = text[left.end : right.start], text[right.end : right.end + 3]
    if not gap or len(gap) > MAX_GAP or not (left.numbers or left.may_be or left.is_vague):
        return False
    if JOINED.fullmatch(gap):
        if gap[0] in "到至" and text[left.start : left.end] == "一" and not left.numbers:
            return _is_range_from_one(text, left, right)
        is_heading = left.start == 0 or text[left.start - 1] in "。！？；"
        is_heading &= text[left.start : left.end] != "十" and behind[:1] != "、"
        return gap != "、" or not is_heading
    if (same := SAME_UNIT.fullmatch(gap)) and behind.startswith(same[1]):
        return True
    if CLOCKS.fullmatch(gap):
        return behind.startswith("点") or "点" in text[right.start : right.end]
    if any(larger.fullmatch(gap) and smaller.match(behind) for larger, smaller in SMALLER):
        return True
    for range_of, units in FAMILIES:
        if range_of.fullmatch(gap) and (units.match(behind) or ENDS.match(behind)):
            return True
    is_digit = re.fullmatch(f"{D}(?:{D}|零)?", text[right.start : right.end]) is not None
    return is_digit and LAST_DIGIT.fullmatch(gap) is not None and ENDS.match(behind) is not None


def _shares_hundreds(text: str, left: Run, right: Run) -> bool:
    """Whether the tens or hundreds of the right run may be meant for the digit on the left too."""
    gap, said = text[left.end : right.start], text[right.start : right.end]
    digit, match = ORDER.get(text[left.start : left.end]), ROUND.fullmatch(said)
    if digit is None or match is None or gap not in ("到", "至"):
        return False
    return digit < ORDER[match[1]] and not (digit == 1 and match[2] == "十")


def _is_range_from_one(text: str, left: Run, right: Run) -> bool:
    """Whether 一到 begins a range. Else it means "as soon as": 一到十二点就困."""
    behind = text[right.end : right.end + 12]
    if text[max(0, left.start - 1) : left.start] in ("从", "由", "自", "第"):
        return True
    return not behind.startswith("点") and not re.match("[^，。！？]*[就便]", behind)
