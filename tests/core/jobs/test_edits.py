"""Edited texts: the text is the edit, and the words that stay keep their times."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import srt as srt_parser
from hypothesis import assume, given
from hypothesis import strategies as st

from deployments.core.formats import FORMATS
from deployments.core.jobs.edits import edited, edited_segment
from deployments.core.text import join_words
from deployments.core.types import TranscriptSegment, Word
from tests.core.transcripts import PARAFORMER, WHISPER, segment_of, spoken, text_of, transcript_of
from tests.invariants import check_invariants

HELLO = TranscriptSegment(
    4,
    1_000,
    3_000,
    "你好 hello world。",
    (
        Word("你", 1_000, 1_200),
        Word("好", 1_200, 1_400),
        Word("hello", 1_500, 2_000, space=True),
        Word("world", 2_100, 2_900, "。", space=True),
    ),
)
edits = st.text("今天很好abZ9 .，。？'’-（）\n", max_size=30)


@st.composite
def segments(draw: st.DrawFn) -> TranscriptSegment:
    """A segment of Chinese characters and foreign words, as the recogniser writes them."""
    at_ms = first_ms = draw(st.integers(0, 5_000))
    words: list[Word] = []
    for text in draw(st.lists(st.sampled_from(["今", "天", "好", "ab", "Zb"]), min_size=1)):
        start_ms = at_ms + draw(st.integers(0, 300))
        at_ms = start_ms + draw(st.integers(0, 300))
        mark = draw(st.sampled_from(["", "", "，", "。", "."]))
        words.append(Word(text, start_ms, at_ms, mark, bool(words) and text.isascii()))
    last_ms = at_ms + draw(st.integers(0, 300))
    return TranscriptSegment(0, first_ms, last_ms, text_of(tuple(words)), tuple(words))


def plain(text: str) -> str:
    """The text with one space for any white space."""
    return " ".join(text.split())


@given(segments(), edits)
def test_the_text_is_the_edit_and_the_words_are_the_text(
    segment: TranscriptSegment, text: str
) -> None:
    found = edited_segment(segment, text)

    assert found.text == plain(text)
    assert join_words(found.words) == found.text


@given(segments(), edits)
def test_times_are_sorted_and_stay_within_the_segment(
    segment: TranscriptSegment, text: str
) -> None:
    words = edited_segment(segment, text).words

    edges_ms = [segment.start_ms, *(t for w in words for t in (w.start_ms, w.end_ms))]
    assert edges_ms == sorted(edges_ms)
    assert edges_ms[-1] <= segment.end_ms


@given(segments())
def test_the_same_text_changes_nothing(segment: TranscriptSegment) -> None:
    assert edited_segment(segment, segment.text) == segment


@given(segments(), st.sampled_from("，。？！、"))
def test_new_marks_change_no_time(segment: TranscriptSegment, mark: str) -> None:
    marked = "".join((" " if w.space else "") + w.text + mark for w in segment.words)

    words = edited_segment(segment, marked).words

    assert words == tuple(replace(word, mark=mark) for word in segment.words)


@given(segments(), st.data())
def test_words_around_a_new_one_keep_their_times(
    segment: TranscriptSegment, data: st.DataObject
) -> None:
    # Of words that are the same, nobody can say which of them a person has kept.
    assume(len({word.text.lower() for word in segment.words}) == len(segment.words))
    at = data.draw(st.integers(0, len(segment.words)))
    before, after = segment.words[:at], segment.words[at:]
    text = f"{join_words(before)} 新 {join_words(after)}"

    words = edited_segment(segment, text).words

    assert len(words) == len(segment.words) + 1
    assert words[at].text == "新"
    kept = [(w.text, w.start_ms, w.end_ms) for w in (*words[:at], *words[at + 1 :])]
    assert kept == [(w.text, w.start_ms, w.end_ms) for w in segment.words]


def test_a_corrected_word_has_the_time_of_the_wrong_one() -> None:
    words = edited_segment(HELLO, "您好 hello word。").words

    assert words[0] == Word("您", 1_000, 1_200)
    assert words[-1] == Word("word", 2_100, 2_900, "。", space=True)
    assert words[1:3] == HELLO.words[1:3]


def test_two_words_share_the_time_of_one() -> None:
    words = edited_segment(HELLO, "你好 hello the world。").words

    assert [(w.text, w.start_ms, w.end_ms) for w in words[2:]] == [
        ("hello", 1_500, 2_000),
        ("the", 2_000, 2_100),
        ("world", 2_100, 2_900),
    ]


def test_letters_may_become_capitals() -> None:
    words = edited_segment(HELLO, "你好 Hello World。").words

    assert [w.text for w in words] == ["你", "好", "Hello", "World"]
    assert [w.start_ms for w in words] == [w.start_ms for w in HELLO.words]


def test_a_segment_without_word_times_gets_none() -> None:
    found = edited(WHISPER, {1: "不好。"})

    assert found.segments[1].text == "不好。"
    assert (found.segments[1].words, found.segments[1].cues) == ((), ())
    check_invariants(found)


def test_a_segment_can_be_emptied() -> None:
    found = edited(PARAFORMER, {0: "  "})

    assert found.segments[0].text == ""
    assert found.text == "你 hello world 吗？"


def test_a_failed_segment_can_be_written_by_hand() -> None:
    found = edited(PARAFORMER, {2: "好的。"})

    assert found.text == PARAFORMER.text + "好的。"


def test_an_edit_of_a_segment_that_is_not_there_changes_nothing() -> None:
    assert edited(PARAFORMER, {9: "x"}) == PARAFORMER
    assert edited(PARAFORMER, {}) is PARAFORMER


@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize("text", ["again", "again hello", "又 again", "再见。", ""])
def test_an_edited_transcript_is_one_like_any_other(text: str, number: int) -> None:
    first = segment_of((Word("hello", 0, 400), Word("there", 500, 900, space=True)))
    second = segment_of((Word("you", 1_000, 1_400, space=True),), 1)
    third = segment_of((Word("here", 2_000, 2_400, space=True),), 2)
    transcript = replace(transcript_of(first, second, third), text="hello there you here")

    check_invariants(transcript)
    check_invariants(edited(transcript, {number: text}))


def test_a_seam_that_nobody_edited_stays_as_it_was() -> None:
    words = [Word("好", 0, 400), Word("ok", 1_000, 1_400, space=True), Word("行", 2_000, 2_400)]
    segments = [segment_of((word,), number) for number, word in enumerate(words)]
    transcript = replace(transcript_of(*segments), text="好 ok行")

    assert edited(transcript, {2: "不行"}).text == "好 ok不行"
    assert edited(transcript, {0: "很好"}).text == "很好 ok行"


@given(st.dictionaries(st.integers(0, 2), edits.filter(lambda text: plain(text) != "")))
def test_subtitles_and_texts_have_the_edits(made: dict[int, str]) -> None:
    segments = tuple(segment_of(spoken("今天天气很好。", start_ms=i * 2_000), i) for i in range(3))
    transcript = edited(transcript_of(*segments), made)

    srt = "".join(cue.content for cue in srt_parser.parse(FORMATS["srt"].render(transcript, ())))

    expected = "".join("".join(segment.text.split()) for segment in transcript.segments)
    assert "".join(srt.split()) == expected
    assert "".join(transcript.text.split()) == expected
    starts = [segment.start_ms for segment in transcript.segments]
    assert all(earlier <= later for earlier, later in pairwise(starts))
