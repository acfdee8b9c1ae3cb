"""Subtitles: their invariants on arbitrary transcripts, and examples of good ones."""

from __future__ import annotations

import datetime as dt
import html
import itertools

import pytest
import srt as srt_parser
import webvtt
from hypothesis import given, settings

from deployments.core.subtitles import (
    MAX_CUE_MS,
    MAX_WIDTH,
    MIN_CUE_MS,
    clock,
    srt,
    subtitles,
    vtt,
    width_of,
)
from deployments.core.types import Cue, Transcript, TranscriptSegment, Word
from tests.core.transcripts import (
    PARAFORMER,
    SILENCE,
    segment_of,
    spoken,
    transcript_of,
    transcripts,
)


def squeezed(*texts: str) -> str:
    """The joined texts without white space."""
    return "".join("".join(texts).split())


def texts_of(transcript: Transcript) -> list[str]:
    return [cue.text for cue in subtitles(transcript)]


@settings(max_examples=60, deadline=None)
@given(transcripts())
def test_cues_are_sorted_apart_inside_the_recording_and_within_the_limits(
    transcript: Transcript,
) -> None:
    cues = subtitles(transcript)

    edges_ms = [0, *itertools.chain(*((c.start_ms, c.end_ms) for c in cues))]
    assert edges_ms == sorted(edges_ms)
    assert edges_ms[-1] <= transcript.duration_ms
    assert all(cue.end_ms - cue.start_ms <= MAX_CUE_MS for cue in cues)
    assert all(width_of(cue.text) <= MAX_WIDTH for cue in cues)


@settings(max_examples=60, deadline=None)
@given(transcripts())
def test_the_cues_joined_are_the_text(transcript: Transcript) -> None:
    cues = subtitles(transcript)

    assert squeezed(*(cue.text for cue in cues)) == squeezed(transcript.text)


@settings(max_examples=60, deadline=None)
@given(transcripts())
def test_srt_is_parsed_back_into_the_same_cues(transcript: Transcript) -> None:
    parsed = list(srt_parser.parse(srt(transcript)))

    cues = subtitles(transcript)
    assert [squeezed(p.content) for p in parsed] == [squeezed(c.text) for c in cues]
    assert [p.start for p in parsed] == [dt.timedelta(milliseconds=c.start_ms) for c in cues]
    assert [p.end for p in parsed] == [dt.timedelta(milliseconds=c.end_ms) for c in cues]


@settings(max_examples=60, deadline=None)
@given(transcripts())
def test_vtt_is_parsed_back_into_the_same_cues(transcript: Transcript) -> None:
    parsed = webvtt.from_string(vtt(transcript)).captions

    cues = subtitles(transcript)
    assert [html.unescape(p.text) for p in parsed] == [c.text for c in cues]
    assert [p.start for p in parsed] == [clock(c.start_ms, ".") for c in cues]
    assert [p.end for p in parsed] == [clock(c.end_ms, ".") for c in cues]


@pytest.mark.parametrize(
    ("t_ms", "expected"),
    [(0, "00:00:00,000"), (59_999, "00:00:59,999"), (360_000_001, "100:00:00,001")],
)
def test_clock_is_exact_to_the_millisecond(t_ms: int, expected: str) -> None:
    assert clock(t_ms, ",") == expected


def test_lines_end_at_marks() -> None:
    said = spoken("今天我们讨论集群的语音识别，它由三个部分组成，先说第一个部分。", start_ms=0)

    lines = texts_of(transcript_of(segment_of(said)))

    assert lines == ["今天我们讨论集群的语音识别，", "它由三个部分组成，先说第一个部分。"]


def test_each_sentence_has_its_own_line() -> None:
    said = spoken("今天天气很好。我们去公园吧。", start_ms=0)

    lines = texts_of(transcript_of(segment_of(said)))

    assert lines == ["今天天气很好。", "我们去公园吧。"]


def test_text_without_marks_is_cut_into_even_lines() -> None:
    said = spoken("一二三四五六七八九十" * 3, start_ms=0)

    widths = [width_of(line) for line in texts_of(transcript_of(segment_of(said)))]

    assert widths == [30, 30]


def test_a_short_sentence_shares_the_line_of_its_neighbour() -> None:
    said = spoken("好。我们开始吧。", start_ms=0)

    assert texts_of(transcript_of(segment_of(said))) == ["好。我们开始吧。"]


def test_short_sentences_of_two_segments_share_a_line() -> None:
    first = segment_of(spoken("好。", start_ms=0))
    second = segment_of(spoken("我们走。", start_ms=300), index=1)

    assert texts_of(transcript_of(first, second)) == ["好。我们走。"]


def test_a_short_cue_stays_until_its_minimum_or_the_next() -> None:
    first = segment_of(spoken("好。", start_ms=0))
    second = segment_of(spoken("对。", start_ms=8_000), index=1)

    cues = subtitles(transcript_of(first, second, duration_ms=8_600))

    assert cues == (Cue("好。", 0, MIN_CUE_MS), Cue("对。", 8_000, 8_600))


@pytest.mark.parametrize("word_ms", [120, 200, 350, 500])
def test_running_speech_has_no_cue_under_a_second(word_ms: int) -> None:
    said = spoken("是的。我知道。那么，我们下面来看一看这个问题应该怎样解决。好！" * 8, start_ms=0)
    timed = spoken("".join(w.text + w.mark for w in said), start_ms=0, word_ms=word_ms)

    cues = subtitles(transcript_of(segment_of(timed)))

    assert min(cue.end_ms - cue.start_ms for cue in cues) >= MIN_CUE_MS


def test_a_long_pause_is_not_bridged() -> None:
    said = (*spoken("我想", start_ms=0), *spoken("我们可以走", start_ms=3_000))

    assert texts_of(transcript_of(segment_of(said))) == ["我想", "我们可以走"]


def test_cues_of_the_engine_time_the_text_without_word_times() -> None:
    first, second = Cue("今天天气很好,我想出去走走。", 0, 2_000), Cue("我们去公园。", 2_500, 6_000)
    segment = TranscriptSegment(0, 0, 6_000, first.text + second.text, cues=(first, second))

    assert subtitles(transcript_of(segment)) == (first, second)


def test_without_word_times_and_cues_time_is_shared_by_text() -> None:
    text = "一二三四五六七八九，一二三四五六七八九。"
    segment = TranscriptSegment(0, 1_000, 13_000, text)

    cues = subtitles(transcript_of(segment))

    assert [cue.text for cue in cues] == ["一二三四五六七八九，", "一二三四五六七八九。"]
    assert [(cue.start_ms, cue.end_ms) for cue in cues] == [(1_000, 7_000), (7_000, 13_000)]


def test_cues_of_the_engine_are_put_in_order_and_inside_their_segment() -> None:
    cues = (Cue("今天天气很好。", 500, 3_000), Cue("我们去公园。", 2_000, 9_000))
    segment = TranscriptSegment(0, 1_000, 6_000, "今天天气很好。我们去公园。", cues=cues)

    assert subtitles(transcript_of(segment, duration_ms=9_000)) == (
        Cue("今天天气很好。", 1_000, 3_000),
        Cue("我们去公园。", 3_000, 6_000),
    )


def test_a_word_that_lasts_too_long_is_not_shown_longer_than_a_cue_may() -> None:
    segment = segment_of((Word("啊", 0, 20_000, "。"),))

    assert subtitles(transcript_of(segment)) == (Cue("啊。", 0, MAX_CUE_MS),)


def test_a_word_wider_than_a_line_is_cut() -> None:
    segment = segment_of((Word("x" * 100, 0, 5_000),))

    lines = texts_of(transcript_of(segment))

    assert "".join(lines) == "x" * 100
    assert max(map(width_of, lines)) <= MAX_WIDTH


def test_a_closing_quote_does_not_hide_the_end_of_a_sentence() -> None:
    text = "他对我们说：“今天就到这里吧。”我们大家都回家了"

    lines = texts_of(transcript_of(TranscriptSegment(0, 0, 9_000, text)))

    assert lines == ["他对我们说：“今天就到这里吧。”", "我们大家都回家了"]


def test_cues_that_do_not_carry_the_text_are_not_used() -> None:
    segment = TranscriptSegment(0, 0, 2_000, "今天天气", cues=(Cue("明天", 0, 500),))

    assert subtitles(transcript_of(segment)) == (Cue("今天天气", 0, 2_000),)


def test_foreign_words_keep_their_spaces() -> None:
    assert texts_of(PARAFORMER)[-1] == "你 hello world 吗？"


def test_words_of_two_segments_do_not_run_together() -> None:
    segments = (TranscriptSegment(0, 0, 400, "good"), TranscriptSegment(1, 400, 800, "day"))

    assert texts_of(transcript_of(*segments)) == ["good day"]


def test_a_quote_does_not_stand_at_the_end_of_a_line_it_opens() -> None:
    text = "他想了很久以后对我们大家说，“今天我们一定要把它做完。”"

    lines = texts_of(transcript_of(TranscriptSegment(0, 0, 9_000, text)))

    assert lines == ["他想了很久以后对我们大家说，", "“今天我们一定要把它做完。”"]


def test_silence_has_no_cues() -> None:
    assert srt(SILENCE) == ""
    assert list(webvtt.from_string(vtt(SILENCE)).captions) == []


def test_vtt_escapes_what_a_player_would_read_as_markup() -> None:
    segment = TranscriptSegment(0, 0, 2_000, "a < b && c --> d")

    assert vtt(transcript_of(segment)).splitlines()[3] == "a &lt; b &amp;&amp; c --&gt; d"


def test_srt_defuses_arrows_tags_and_overrides() -> None:
    segment = TranscriptSegment(0, 0, 2_000, "a --> b <i>c</i> {\\an8}d 1 < 2")

    content = srt(transcript_of(segment)).splitlines()[2]

    assert content == "a -- > b < i>c< /i> { \\an8}d 1 < 2"


def test_blank_lines_in_the_text_do_not_end_a_cue() -> None:
    segment = TranscriptSegment(0, 0, 2_000, "今天\n\n天气")

    assert [p.content for p in srt_parser.parse(srt(transcript_of(segment)))] == ["今天 天气"]
    assert [p.text for p in webvtt.from_string(vtt(transcript_of(segment))).captions] == [
        "今天 天气"
    ]
