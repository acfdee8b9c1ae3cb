"""What the words around a run of numerals say about it, as patterns to read and edit."""

from __future__ import annotations

import re

from deployments.core.numbers.grammar import D2, NUMERAL, D

DAY_PART = (
    "(?:上午|下午|早上|早晨|清晨|晚上|夜里|凌晨|中午|午后|午间|傍晚|半夜|深夜|夜间|晚间|早间|当晚|"
    "今早|今晚|明早|明晚|昨晚|昨夜|今夜|(?:周|星期|礼拜)[一二三四五六日天])"
)
ABOUT = "[的大约概差不多将近快就才是在到了前后]{0,4}"
# Runs of one or two characters that are numbers only in these contexts.
BESIDE = tuple(
    re.compile(pattern)
    for pattern in (
        f"(?:{D}|十)(?=月)",
        f"(?<=月)(?:{D}|十)(?=[号日])",
        f"(?:{D2}|十)(?=点[半钟整])",
        "十(?=[号日年岁个元块天秒人台次名位张条米倍度]|分钟|小时|公里|公斤|厘米|毫米|平米|平方|"
        "立方|毫升|千克|毫克|英寸|美元|欧元|日元|英镑)",
        "零零(?=[后年])|零[一二三四五六七八九](?=[年后级届])",
        # A year. But 七八年 and 三五年 are about as many years.
        f"(?!一二|二三|三四|四五|五六|六七|七八|八九|三五)[五六七八九]{D}(?=年)",
        "[七八九一]五(?=后)|八[一二三四五六七](?=[级届])|九[一二三四五六七八九](?=[级届])",
        f"(?<=分)零{D}(?=秒)",
        f"{D}(?= ?[GgKkDd](?![A-Za-z]))",
    )
)
HOUR = re.compile(f"(?:{D2}|十)(?=点)")  # of one character, behind a part of the day
# The last characters before a time of day, as in 下午五点零三 and 上午三点到五点零三.
IN_THE_DAY = re.compile(
    f"{DAY_PART}(?:{ABOUT}|{ABOUT}{NUMERAL}{{1,3}}点(?:{NUMERAL}|[分半钟整多]){{0,5}}[到至和或、])$"
)
IN_THE_DAY_CHARS = 20
# 一点 that means "a little", though a part of the day stands before: 晚上一点都不冷.
LITTLE = re.compile(
    "一点(?:[点儿都也没]|不(?![见到])|[^，。！？、；钟半整我你他她它咱大家就才到至左右以之前后多的开]{1,4}"
    "[都也](?:不|没|无|别|未))"
)
A_LITTLE = frozenset("有早晚快慢多少大小高低好差这那近远轻重强弱长短贵松紧宜")  # + 一点
# 九点零五 is a time of day, unless one of these stands before it or a unit behind it.
DECIMAL_BEFORE = re.compile(
    "(?<!时间)(?<!现在)[是为达至于涨跌升降约近超过率值数分版第乘除加减]到?$"
)
DECIMAL_AFTER = re.compile(
    f"(?:[到至](?:{NUMERAL}|点){{1,8}})?[倍米元块万亿千百度公厘毫平立吨克斤升个版伏安瓦赫兆英寸美欧港日折成里代级%]"
)

CODE_BEFORE = re.compile(
    "(?:[号码拨叫打]|编号|尾号|热线|电话|手机|房间|航班|代码|型号|车牌|线路|[A-Za-z])[是为：:]?$"
)
CODE_AFTER = frozenset("路号室房次型")
COUNTING = "一二三四五六七八九"
EVERY_OTHER = frozenset(
    COUNTING[i::step][:n] for step in (2, 3) for i in range(6) for n in (3, 4, 5)
)

WEEKDAY = re.compile("(?:周|星期|礼拜)$")
WEEKDAYS = re.compile("一?二?三?四?五?六?")
N_WEEKS = re.compile(f"(?:{NUMERAL}|半|几)个?(?:周|星期|礼拜)$")
EVERY_WEEK = re.compile("每周$")
THIS_WEEK = re.compile("[上下本这]周$")  # complete without the name of a day
DAY_OF_MONTH, HOUR_OF_DAY = (
    re.compile("二?十[一二三四五六七八九]?|三十一?"),
    re.compile("十[一二三四五六七八九]?|二十[一二三四]?"),
)

SIGN_BEFORE = frozenset("是为到至在了得达约有和与从于由或及比乘除低高温外天，。！？、：； ")  # + 负
NO_SIGN = frozenset("自胜肩背抱欠担辜亏欺正减身净")  # + 负 is a word of its own
# A 零 between a unit and a smaller one: 二十块零五毛.
ZERO_BETWEEN = re.compile("[块元年月天时头钟斤克米]$")
ONE_OF = "一[斤个张只件条瓶盒位人米度两升次本袋包份公平晚天小分月年]"
# 十五块八一斤, 三百一晚, 三斤六两: the second numeral belongs to the unit.
FOR_ONE = re.compile(f"(?<=斤){D}(?=两)|(?<=[块元毛角]){D}(?={ONE_OF})|{D2}[百千万](?={ONE_OF})")
MULTIPLES = frozenset("倍米公厘毫吨")
SOME_BEHIND = re.compile("(?:点|分之)?几")  # 十几, 百分之零点几
VAGUE_BEFORE = frozenset("几数好")  # 好几百, 数十
TENS_AND_MORE = frozenset("十百千万亿")
