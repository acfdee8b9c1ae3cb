"""Numbers in digits: the words that change, those that must not, and the times of a number."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, chain, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.core.numbers.write import Written, write_numbers
from deployments.core.text import join_words
from deployments.core.types import Word

NUMERALS = "零〇一二两三四五六七八九幺十百千万亿"
AROUND = "点分之负年月号日半钟个到至多几后下有早这上午元，。"


def spoken(text: str) -> list[Word]:
    """A word of 100 ms for each character, 20 ms apart."""
    return [Word(char, 120 * i, 120 * i + 100) for i, char in enumerate(text)]


def written_as(*, written: str) -> list[Written]:
    return write_numbers(spoken("有三百零五个"), lambda _: written)


def test_a_number_is_one_word_from_its_first_start_to_its_last_end() -> None:
    words = [*spoken("有三百零"), Word("五", 480, 580, mark="，"), Word("个", 600, 700)]

    written = write_numbers(words, lambda said: {"三百零五": "305"}[said])

    assert written == [
        Written(words[0]),
        Written(Word("305", 120, 580, mark="，"), 4),
        Written(words[5]),
    ]


@pytest.mark.parametrize("answer", ["", "三百零五", "305块", "¥305", "0305.", "3 05"])
def test_words_that_are_no_number_stay(answer: str) -> None:
    assert written_as(written=answer) == [Written(word) for word in spoken("有三百零五个")]


def test_a_number_that_a_segment_ends_in_is_left_unless_it_is_digits() -> None:
    words = spoken("三百零五，零五七一八八")

    written = write_numbers(words, str, cuts={2, 9})

    assert join_words(one.word for one in written) == "三百零五，057188"
    assert [one.n_words for one in written[-2:]] == [4, 2]
    assert [one.word.start_ms for one in written[-2:]] == [600, 1080]


def test_an_expression_is_left_if_one_of_its_numbers_cannot_be_written() -> None:
    words = spoken("五到三百个")

    written = write_numbers(words, lambda said: {"三百": "¥300"}[said])

    assert written == [Written(word) for word in words]


def test_an_expression_is_left_if_a_segment_ends_inside_one_of_its_numbers() -> None:
    words = spoken("五到二十个")

    assert write_numbers(words, lambda _: "20", cuts={3}) == [Written(word) for word in words]


def test_a_space_stands_between_a_number_and_a_foreign_word() -> None:
    words = [Word("iPhone", 0, 1), Word("十", 1, 2), Word("二", 2, 3), Word("Pro", 3, 4)]

    written = write_numbers(words, lambda _: "12")

    assert join_words(one.word for one in written) == "iPhone 12 Pro"


def test_a_number_inside_a_longer_word_is_left() -> None:
    words = [Word("二十", 0, 1), Word("一些", 1, 2)]

    assert write_numbers(words, lambda _: "21") == [Written(word) for word in words]


@st.composite
def sentences(draw: st.DrawFn) -> list[Word]:
    """Words with many numerals, the units and particles that decide about them, and any text."""
    texts = draw(
        st.lists(
            st.one_of(
                st.sampled_from(NUMERALS),
                st.sampled_from(NUMERALS + AROUND),
                st.sampled_from(["hello", "A", "百分之", "😀", "3", "%", " ", "\n"]),
                st.text(min_size=1, max_size=3),
            ),
            max_size=40,
        )
    )
    marks = [draw(st.sampled_from(["", "", "", "，", "。"])) for _ in texts]
    spaces = [draw(st.integers(0, 5)) == 0 for _ in texts]
    return [
        Word(text, 120 * i, 120 * i + 100, mark, space)
        for i, (text, mark, space) in enumerate(zip(texts, marks, spaces, strict=True))
    ]


def plausible(said: str) -> str:
    """Digits in the form of the spoken number, made from its length."""
    n = str(len(said))
    return f"{n}%" if said[0] == "百" else f"{n}/{n}" if "分之" in said else n


def sources_of(written: Sequence[Written], words: Sequence[Word]) -> list[Sequence[Word]]:
    """The spoken words that each written word stands for."""
    ends = accumulate(one.n_words for one in written)
    return [words[end - one.n_words : end] for one, end in zip(written, ends, strict=True)]


def bounds_of(words: Sequence[Word]) -> tuple[int, int, str]:
    """Where the words begin and end, and the mark behind them."""
    return words[0].start_ms, words[-1].end_ms, words[-1].mark


def at_cuts(words: Sequence[Word], cuts: set[int]) -> list[Word]:
    """The words that begin a segment."""
    return [word for index, word in enumerate(words) if index in cuts]


@given(sentences(), st.sets(st.integers(0, 40)))
def test_nothing_is_lost_and_only_numbers_change(words: list[Word], cuts: set[int]) -> None:
    written = write_numbers(words, plausible, cuts)

    sources = sources_of(written, words)
    changed = [s for one, s in zip(written, sources, strict=True) if one.word.text != s[0].text]
    assert list(chain(*sources)) == words
    assert [bounds_of([one.word]) for one in written] == [bounds_of(s) for s in sources]
    assert all(before.word.end_ms <= after.word.start_ms for before, after in pairwise(written))
    assert set("".join(word.text for s in changed for word in s)) <= set(NUMERALS + "点分之负")
    assert not any(word.mark for s in changed for word in s[:-1])
    assert not any(word in s[1:] for s in changed for word in at_cuts(words, cuts))
    assert all(len(s) == 1 for s in sources if s not in changed)


@given(sentences())
def test_written_numbers_are_not_written_again(words: list[Word]) -> None:
    once = [one.word for one in write_numbers(words, plausible)]

    twice = [one.word for one in write_numbers(once, plausible)]

    changed = {word.text for word in once} - {word.text for word in words}
    assert [word for word in twice if word.text in changed] == [
        word for word in once if word.text in changed
    ]


@pytest.mark.parametrize("said", ["十", "一点", "初一", "二十大", "周一"])
def test_a_long_run_of_numerals_takes_no_time(said: str) -> None:
    words = spoken(said * 20_000)

    assert len(write_numbers(words, plausible)) == len(words)
