"""Numbers, dates, words and addresses stand whole in one subtitle."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from deployments.core.subtitles import MAX_CUE_MS, subtitles
from deployments.core.types import Cue, TranscriptSegment, Word
from tests.core.transcripts import segment_of, spoken, transcript_of

WORDS = re.compile(r"(\s*)([A-Za-z0-9][^\s\u2e80-\uffff]*|\S)([，。]?)")


def texts_of(segment: TranscriptSegment) -> list[str]:
    return [cue.text for cue in subtitles(transcript_of(segment))]


def in_words(text: str) -> TranscriptSegment:
    """A segment with word times: a word for each Chinese character and each foreign word."""
    words = tuple(
        Word(match[2], 200 * i, 200 * i + 200, match[3], space=bool(match[1]))
        for i, match in enumerate(WORDS.finditer(text))
    )
    return segment_of(words)


def in_text(text: str) -> TranscriptSegment:
    """A segment without word times, 100 ms for each character."""
    return TranscriptSegment(0, 0, 100 * len(text), text)


def breaks_of(part: str, make: Callable[[str], TranscriptSegment]) -> list[list[str]]:
    """The lines that break `part`, which is put at every place of a line."""
    told = [texts_of(make("啊" * n + part + "嗯" * 30)) for n in range(21)]
    return [lines for lines in told if not any(part in line for line in lines)]


@pytest.mark.parametrize("make", [in_words, in_text])
@pytest.mark.parametrize(
    "part",
    [
        "1,280,000,000元",
        "-12.5%",
        "305台",
        "3000多万人",
        "120 km/h",
        "16 GB",
        "38度5",
        "15块8",
        "零下15度",
        "三百零五个小时",
        "百分之三十五",
        "两千零八年",
        "一米八",
        "2026年11月26日",
        "二零二六年十一月二十六日",
        "2026-11-26",
        "2026 年 11 月 26 日",
        "November 26, 2026",
        "15:30",
        "10:45 AM",
        "25 minutes",
        "下午5点03分",
        "凌晨两点半",
        "12月25日晚上8点20",
        "星期三",
        "第123页",
        "transformer",
        "state-of-the-art",
        "don't",
        "https://example.com/a/b?c=1",
        "www.example.org/docs",
        "someone@example.com",
        "U.S.A.",
    ],
)
def test_it_is_never_broken_over_two_cues(
    part: str, make: Callable[[str], TranscriptSegment]
) -> None:
    assert breaks_of(part, make) == []


def test_a_number_that_two_cues_of_the_engine_share_is_in_one() -> None:
    text = "公司今年的全部收入大约是1,280,000,000元人民币"
    cues = (Cue(text[:14], 0, 3_000), Cue(text[14:], 3_000, 6_000))
    segment = TranscriptSegment(0, 0, 6_000, text, cues=cues)

    lines = texts_of(segment)

    assert [line for line in lines if "1,280,000,000元" in line] != []


def test_a_number_said_slower_than_a_cue_may_last_is_cut() -> None:
    said = spoken("三千五百二十一万元", start_ms=0, word_ms=1_000)

    cues = subtitles(transcript_of(segment_of(said)))

    assert max(cue.end_ms - cue.start_ms for cue in cues) <= MAX_CUE_MS
