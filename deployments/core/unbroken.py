"""The parts of a text that stay on one line: numbers with their units, dates, words, addresses."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from deployments.core.numbers.grammar import NUMERAL

Fits = Callable[[int, int], bool]  # whether text[start:end] fits on a line

DAY_PART = "上午|下午|早上|早晨|清晨|凌晨|中午|傍晚|晚上|夜里|今早|今晚|明早|明晚|昨晚"
WEEKDAY = "(?:星期|礼拜|周)[一二三四五六日天]"
DIGITS = r"[¥$€£+\-−]?\d(?:[\d.,:/]*\d)?+[%％‰℃°]{0,2}"
SAID = f"{NUMERAL}{{2,}}+(?:(?:点|分之){NUMERAL}++)*+|{NUMERAL}(?:(?:点|分之){NUMERAL}++)++"
UNITS = (
    "个多?(?:月|小时|钟头|星期|百分点|工作日|人)|小时|分钟|秒钟|年代|世纪|周岁|季度|平方(?:公里|千米|米|厘米)|立方米|"
    "平米|公里|千米|厘米|毫米|公分|英寸|英里|海里|公斤|千克|毫克|毫升|公顷|摄氏度|千瓦时?|美元|欧元|日元|英镑|港元|港币|"
    "人民币|块钱|毛钱|元钱|号楼|"
    "[年月日号点时分秒刻元块毛角岁天周米里寸尺斤两克吨升度个只件条张本位名次人倍台辆套家页章节层楼级届期代步遍种份]"
)
# Behind a number of several characters any Chinese character is taken for its unit, but these.
ANY_UNIT = "(?![和与或到至的是在了就都也还而且但我你他她它这那有不给把被从对])[\u4e00-\u9fff]"
LATIN_UNITS = (
    "km/h|km|cm|mm|nm|m|kg|mg|g|ml|L|[KMGT]B|[KMG]bps|[kMG]?Hz|k?Wh?|mAh|[VAGKMs]|ms|min|h|fps|px|dB|°C|"
    "am|pm|AM|PM|USD|RMB|CNY|EUR|percent|thousand|million|billion|"
    "(?:dollar|euro|second|minute|hour|day|week|month|year|meter|metre|kilometer|kilometre|mile|pound|degree)s?"
)
MONTHS = "(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sept?|Oct|Nov|Dec)(?:[a-z]{1,6})?"
FOREIGN_DATE = (
    rf"{MONTHS} \d{{1,2}}(?:st|nd|rd|th)?(?:,? \d{{4}})?|\d{{1,2}} {MONTHS}(?:,? \d{{4}})?"
)
MORE = "[多余来几]?[十百千万亿]*+"
NUMBER = (
    f"{WEEKDAY}|(?:第|零下|负|正|百分之|{DAY_PART})?"
    f"(?:(?:{DIGITS}|{SAID}){MORE}(?: ?(?:{LATIN_UNITS})(?![A-Za-z])| ?(?:{UNITS})| ?{ANY_UNIT})?"
    f"|{NUMERAL}[多余来几]?[万亿]?(?:{UNITS}))[半整钟]?"
)
# From what is best kept together to what must be: a date with its time, a number with its unit, and
# characters without a space, such as a foreign word, 1,280,000 and an address.
UNBROKEN = tuple(
    re.compile(pattern)
    for pattern in (
        f"(?:{NUMBER})(?: ?(?:{NUMBER}))*+{NUMERAL}?",
        NUMBER,
        FOREIGN_DATE,
        r"[^\s\u2e80-\uffff]+",
    )
)


def unbroken(text: str, fits: Fits) -> Iterator[tuple[int, int]]:
    """From where to where the text is not broken, in no order. Each part fits on a line."""
    for pattern in UNBROKEN:
        for match in pattern.finditer(text):
            if fits(*match.span()):
                yield match.span()
