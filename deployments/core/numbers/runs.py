"""Reads one run of numerals: the numbers that it is, or would be beside another number."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from deployments.core.numbers import contexts as c
from deployments.core.numbers.grammar import CLOCK, SAID, VALUES, kind_of, without_magnitude


@dataclass(frozen=True, slots=True)
class Number:
    """A number in a text from `start` (included) to `end` (not included), and its kind."""

    start: int
    end: int
    kind: str


@dataclass(frozen=True, slots=True)
class Run:
    """Numerals in a row, from `start` (included) to `end` (not included).

    `numbers` are the numbers that they are. `may_be` is the number that they would be beside
    another one, as the first in 十到二十个. `is_vague` says that they are no exact number, as in
    十五六. A run that is none of these belongs to a word, as in 星期三.
    """

    start: int
    end: int
    numbers: tuple[Number, ...] = ()
    may_be: Number | None = None
    is_vague: bool = False


def read_run(text: str, start: int, end: int) -> Run:
    """The run of a text from `start` to `end`."""
    said, after = text[start:end], text[end : end + 1]
    before = text[max(0, start - c.IN_THE_DAY_CHARS) : start]
    if c.WEEKDAY.search(before) and not c.N_WEEKS.search(before) and said[0] in "一二三四五六":
        return _behind_week(text, start, end)
    if c.SOME_BEHIND.match(text, end) or (
        before[-1:] in c.VAGUE_BEFORE and said[0] in c.TENS_AND_MORE
    ):
        return Run(start, end, is_vague=True)
    if said[0] in "零〇" and len(said) > 1 and c.ZERO_BETWEEN.search(before):
        return read_run(text, start + 1, end)
    if (own := c.FOR_ONE.match(text, start)) and own.end() == end - 1:
        return read_run(text, start, end - 1)
    if len(said) > 2 and said.startswith("一点") and before[-1:] in c.A_LITTLE:
        if not _is_decimal(said):
            return read_run(text, start + 2, end)  # 大一点二十岁
        if before[-1] != "近" and said[-1] not in "万亿" and after not in c.MULTIPLES:
            return Run(start, end)
    if numbers := tuple(_signed(text, number) for number in _numbers(text, start, end)):
        return Run(start, end, numbers)
    if len(said) > 1:
        return Run(start, end, is_vague=True)
    if said in VALUES or said == "十":
        is_name = before[-1:] in ("初", "老")  # 初五, 老三
        number = _signed(text, Number(start, end, "cardinal"))
        return Run(start, end, may_be=None if is_name else number)
    return Run(start, end, is_vague=before[-1:] not in ("多", "余", "来"))  # 3000多万


def _numbers(text: str, start: int, end: int) -> Iterator[Number]:
    """The numbers of the run: one, two of a time of day, or none."""
    said = text[start:end]
    before = text[max(0, start - c.IN_THE_DAY_CHARS) : start]
    in_the_day = c.IN_THE_DAY.search(before) is not None
    if len(said) <= 2 and any(pattern.match(text, start) for pattern in c.BESIDE):
        yield Number(start, end, "digits" if len(said) == 2 else "cardinal")
    elif len(said) == 1 and in_the_day and c.HOUR.match(text, start):
        if not c.LITTLE.match(text, start):
            yield Number(start, end, "cardinal")
    elif (clock := CLOCK.fullmatch(said)) and _is_time(text, start, end, in_the_day):
        yield Number(start, start + clock.end(1), "cardinal")
        second = "digits" if clock[2][0] in "零〇" else "cardinal"
        yield Number(start + clock.start(2), end, second)
    elif len(said) > 1:
        bare = without_magnitude(said)
        kind = "cardinal" if bare in VALUES else kind_of(bare)
        if kind and not _is_vague(text, start, end, kind):
            yield Number(start, start + len(bare), kind)


def _is_time(text: str, start: int, end: int, in_the_day: bool) -> bool:
    """Whether the run, such as 五点零三, is a time of day and not a decimal."""
    said, is_minutes = text[start:end], text[end : end + 1] == "分"
    if not _is_decimal(said):
        return True  # 三点十五
    has_zero = said[-2] in "零〇"
    if is_minutes or in_the_day:
        return has_zero or (is_minutes and in_the_day)
    hour = said.partition("点")[0]
    if not has_zero or hour in "零〇" or not (len(hour) == 1 or c.HOUR_OF_DAY.fullmatch(hour)):
        return False
    is_compared = c.DECIMAL_BEFORE.search(text[max(0, start - 4) : start])
    return not is_compared and not c.DECIMAL_AFTER.match(text, end)


def _is_decimal(said: str) -> bool:
    return SAID["decimal"].fullmatch(without_magnitude(said)) is not None


def _is_vague(text: str, start: int, end: int, kind: str) -> bool:
    """Whether the context says that this is not a number."""
    said, after = text[start:end], text[end : end + 1]
    if kind == "decimal":
        before = text[max(0, start - c.IN_THE_DAY_CHARS) : start]
        is_odd_time = c.IN_THE_DAY.search(before) is not None and not c.DECIMAL_AFTER.match(
            text, end
        )
        return after in ("点", "刻") or said == "一点一" or is_odd_time
    if kind == "digits" and not c.CODE_BEFORE.search(text[max(0, start - 4) : start]):
        counting = said in c.COUNTING or said[::-1] in c.COUNTING or said == "一二一"
        is_list = said in c.EVERY_OTHER and after not in c.CODE_AFTER
        return counting or is_list
    return False


def _signed(text: str, number: Number) -> Number:
    """The number with a 负 before it, where that is a sign and not the end of 减负 or 背负."""
    at = number.start - 1
    if number.kind == "digits" or text[max(0, at) : number.start] != "负":
        return number
    before, behind = text[max(0, at - 1) : at], text[number.end : number.end + 1]
    is_sign = not before or before in c.SIGN_BEFORE
    is_sign |= behind in ("度", "℃") and before not in c.NO_SIGN
    return Number(at, number.end, number.kind) if is_sign else number


def _behind_week(text: str, start: int, end: int) -> Run:
    """The run behind 周 or 星期, whose first numeral may be the day of the week: 周五十点."""
    said, after = text[start:end], text[end : end + 1]
    rest, week = said[1:], text[max(0, start - 2) : start]
    if not rest or (c.WEEKDAYS.fullmatch(said) and after != "点"):
        return Run(start, end)  # 周三, 每周一三五
    is_day = after in ("号", "日") and c.DAY_OF_MONTH.fullmatch(said)
    is_hour = after == "点" and c.HOUR_OF_DAY.fullmatch(said)
    is_one = kind_of(said) == "cardinal" and not said.startswith("一十")
    if c.EVERY_WEEK.search(week) and is_one and after not in ("点", "号", "日"):
        numbers = (Number(start, end, "cardinal"),)  # 每周三十小时
        return Run(start, end, numbers)
    if (
        c.THIS_WEEK.search(week)
        and is_one
        and (is_day or is_hour or after not in ("点", "号", "日"))
    ):
        return Run(start, end, is_vague=True)  # 下周二十号: the 20th, or Tuesday the 10th
    run = read_run(text, start + 1, end)
    return run if run.numbers or run.may_be else Run(start, end)
