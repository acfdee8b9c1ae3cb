"""Tidied Chinese, and the text and cues that are made of Whisper's pieces; no weights."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.core.types import Cue, Recognition
from deployments.engines.whisper.chinese_text import printed_chinese, simplified
from deployments.engines.whisper.guards import Confidence
from deployments.engines.whisper.text import Heard, recognition

SURE = Confidence(no_speech_prob=0.02, avg_logprob=-0.2)
NOISE = Confidence(no_speech_prob=0.9, avg_logprob=-0.5)


@pytest.mark.parametrize(
    ("raw", "printed"),
    [
        ("你好,世界!", "你好，世界！"),
        ("你好 ,世界.", "你好，世界。"),
        ("春節是團圓 是溫暖", "春节是团圆是温暖"),
        ("大概在4.2%,帶口音的高一些,差不多是9%.", "大概在4.2%，带口音的高一些，差不多是9%。"),
        ("时间是12:30,对吗?", "时间是12:30，对吗？"),
        ("一共12,300小时", "一共12,300小时"),
        ("我们用 Ray Serve 做的.", "我们用 Ray Serve 做的。"),
        ("用Python,然后再试", "用Python，然后再试"),
        ("版本是v2.0, 明白吗", "版本是v2.0，明白吗"),
        ("Hello, world. It's 3.5", "Hello, world. It's 3.5"),
        ("好的... 我知道了", "好的……我知道了"),
        ("大概在4.2%,", "大概在4.2%，"),
        ("  我   说  GPU   很  快 ", "我说 GPU 很快"),
        ("", ""),
    ],
)
def test_chinese_is_printed_as_chinese(raw: str, printed: str) -> None:
    assert printed_chinese(raw) == printed


@given(st.text(alphabet="我們說,.!? 3aB\u3002，…“”", max_size=40))
def test_printing_twice_changes_nothing(raw: str) -> None:
    once = printed_chinese(raw)

    assert printed_chinese(once) == once


def test_words_of_a_region_are_not_exchanged() -> None:
    assert simplified("軟體裡面的頭髮") == "软体里面的头发"


def heard(text: str, start_ms: int, end_ms: int, confidence: Confidence = SURE) -> Heard:
    return Heard(text, start_ms, end_ms, confidence)


def test_the_cues_joined_are_the_text() -> None:
    pieces = [heard(" 今天开会,", 0, 1500), heard("明天也开.", 1500, 3200)]

    result = recognition(pieces, n_ms=3000, language="zh")

    assert result == Recognition(
        "今天开会，明天也开。",
        cues=(Cue("今天开会，", 0, 1500), Cue("明天也开。", 1500, 3000)),
    )


def test_foreign_pieces_are_joined_with_a_space() -> None:
    pieces = [heard("good morning", 0, 900), heard("everyone", 900, 1800)]

    result = recognition(pieces, n_ms=2000, language="en")

    assert result.text == "good morning everyone"
    assert result.cues[1].text == " everyone"


def test_characters_of_another_language_stay() -> None:
    assert recognition([heard("會議を始めます", 0, 900)], n_ms=900, language="ja").text == (
        "會議を始めます"
    )


@pytest.mark.parametrize("text", ["", " ", ",。。", "…"])
def test_marks_alone_are_no_text(text: str) -> None:
    assert recognition([heard(text, 0, 900)], n_ms=900, language="zh") == Recognition("")


def test_an_invented_piece_goes_and_the_others_stay() -> None:
    pieces = [heard("今天开会。", 0, 1000), heard("请不吝点赞订阅转发", 1000, 2000, NOISE)]

    result = recognition(pieces, n_ms=2000, language="zh")

    assert [cue.text for cue in result.cues] == ["今天开会。"]


def test_a_stock_phrase_on_noise_is_silence() -> None:
    result = recognition([heard("谢谢观看!", 0, 900, NOISE)], n_ms=900, language="zh")

    assert result == Recognition("")


@given(
    st.lists(st.tuples(st.integers(-500, 40_000), st.integers(-500, 40_000)), max_size=8),
    st.integers(0, 30_000),
)
def test_cues_are_sorted_and_inside_the_segment(times: list[tuple[int, int]], n_ms: int) -> None:
    pieces = [heard(f"第{i}句话。", start, end) for i, (start, end) in enumerate(times)]

    result = recognition(pieces, n_ms=n_ms, language="zh")

    edges = [ms for cue in result.cues for ms in (cue.start_ms, cue.end_ms)]
    assert edges == sorted(edges)
    assert all(0 <= ms <= n_ms for ms in edges)
    assert result.text == "".join(cue.text for cue in result.cues)
