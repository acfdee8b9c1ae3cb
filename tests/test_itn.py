"""Inverse text normalisation of real sentences, through the library."""

from __future__ import annotations

import pytest

from deployments.core.numbers import Written
from deployments.core.text import join_words
from deployments.core.types import Word
from deployments.itn import normalise

WRITTEN = [
    ("我们一共有三百零五个客户", "我们一共有305个客户"),
    ("处理了一万两千三百小时的录音", "处理了12300小时的录音"),
    ("一共两千零五人", "一共2005人"),
    ("一下子来了一万一千个人", "一下子来了11000个人"),
    ("省了大约十二万", "省了大约12万"),
    ("人口有十三亿", "人口有13亿"),
    ("投资一亿五千万", "投资1亿5000万"),
    ("三百多人到场", "300多人到场"),
    ("二十一世纪", "21世纪"),
    ("第十三名", "第13名"),
    ("需要四十秒，不超过二十个字", "需要40秒，不超过20个字"),
    ("等了十分钟", "等了10分钟"),
    ("差不多三百五", "差不多350"),
    ("二零二六年三月十二号", "2026年3月12号"),
    ("二〇二六年十一月二十二日", "2026年11月22日"),
    ("一九九八年五月一日", "1998年5月1日"),
    ("零八年的时候", "08年的时候"),
    ("三月三号开会", "3月3号开会"),
    ("四月底搬完", "4月底搬完"),
    ("九零后和零零后", "90后和00后"),
    ("一名六零岁左右的工人", "一名60岁左右的工人"),
    ("总共是两百六十八万五千元", "总共是268万5000元"),
    ("收您一百二十三元", "收您123元"),
    ("涨到三百二十八万一千一百三十八点四八", "涨到328万1138.48"),
    ("增长了百分之三十五", "增长了35%"),
    ("错误率百分之四点二，不到百分之九", "错误率4.2%，不到9%"),
    ("百分之零点五", "0.5%"),
    ("百分之百满意", "100%满意"),
    ("百分之一百二十", "120%"),
    ("三分之二的人", "2/3的人"),
    ("十分之一", "1/10"),
    ("圆周率是三点一四一五九", "圆周率是3.14159"),
    ("一点五倍", "1.5倍"),
    ("两点五公里", "2.5公里"),
    ("卖了十二点五万", "卖了12.5万"),
    ("负二十度，零下十五度", "-20度，零下15度"),
    ("负二点五", "-2.5"),
    ("下午三点半开会", "下午3点半开会"),
    ("三点十五分", "3点15分"),
    ("三点零五分", "3点05分"),
    ("十二点整", "12点整"),
    ("二十到三十岁", "20到30岁"),
    ("五到十个", "5到10个"),
    ("电话是零五七一八八六六二二三三", "电话是057188662233"),
    ("手机幺三八零零一三八零零零", "手机13800138000"),
    ("请打幺幺零", "请打110"),
    ("验证码一二三四五六", "验证码123456"),
    ("号码是一三七七七八八零零零一", "号码是13777880001"),
    ("二百五十块", "250块"),
    ("二月二十八号和三月三十日", "2月28号和3月30日"),
    ("二十号之前", "20号之前"),
]
LEFT = [
    "等一下，一下子就好",
    "一个人有一些想法",
    "万一有个三长两短怎么办",
    "十分高兴",
    "十全十美",
    "来了三五个人，七八个孩子",
    "二三十个，三四百块",
    "十几秒就能出结果",
    "十来个人，十多年",
    "几十万人，好几百",
    "不管三七二十一",
    "一五一十地说",
    "乱七八糟，七七八八",
    "九一八事变",
    "三十而立，四十不惑",
    "一千零一夜",
    "他是个二百五",
    "双十一购物节和十一黄金周",
    "第一，第二件事情",
    "星期四，上周三下午",
    "三个半小时",
    "每个月做一次",
    "我有三点建议",
    "早一点一起来",
    "有一点一般",
    "一点一点地做",
    "三点一线",
    "三点一刻",
    "一二三，走",
    "七八年前",
    "三块五毛",
    "一米八的个子",
    "百分之二三十",
    "千分之三",
    "三月三，二月二",
    "一心一意，一言一行",
    "五五分成，四舍五入",
    "亿万富翁，千方百计",
    "负责任，胜负已分",
    "三百零五千三百三十四",
    "两亿零三十万",  # wetext says 2亿300000, in which the 亿 and the digits do not fit
    "😀 hello ½ ３ 三 \ud800",
    "",
]


def words_of(text: str) -> list[Word]:
    return [Word(char, i, i + 1) for i, char in enumerate(text)]


def as_written(text: str) -> str:
    written, failure = normalise(words_of(text), ())
    assert failure is None
    return join_words(one.word for one in written)


@pytest.mark.parametrize(("said", "expected"), WRITTEN)
def test_a_number_is_written_in_digits(said: str, expected: str) -> None:
    assert as_written(said) == expected


@pytest.mark.parametrize("said", LEFT)
def test_what_is_no_number_or_an_idiom_stays(said: str) -> None:
    assert as_written(said) == said


def test_a_library_that_fails_costs_the_digits_not_the_sentence() -> None:
    def broken(said: str) -> str:
        raise RuntimeError("no path through the transducer")

    words = words_of("三百零五个")

    assert normalise(words, (), broken) == ([Written(w) for w in words], "RuntimeError")
