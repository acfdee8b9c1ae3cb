"""The check of a list of hotwords, and the report on which of them were applied."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.core.errors import BadRequest
from deployments.core.hints import (
    MAX_HOTWORD_CHARS,
    check_hotwords,
    report_hotwords,
    warn_of_unspelt,
)
from deployments.core.types import HotwordReport


def test_equal_lists_are_equal_however_they_were_typed() -> None:
    typed = (" 魔搭 ", "New   York", "魔搭", "", "\t")

    assert check_hotwords(typed, max_hotwords=2) == ("魔搭", "New York")


@pytest.mark.parametrize(
    ("hotwords", "says"),
    [
        ("魔搭", "list"),
        (("魔搭", 7), "list"),
        (("a", "b", "c"), "more than 2"),
        (("x" * (MAX_HOTWORD_CHARS + 1),), "40 characters"),
        (("a\0b",), "control"),
        (("a\u202eb",), "control"),
        (("\ud800",), "control"),
    ],
)
def test_all_but_a_list_of_short_texts_is_refused(hotwords: tuple[str, ...], says: str) -> None:
    with pytest.raises(BadRequest, match=says) as caught:
        check_hotwords(hotwords, max_hotwords=2)

    assert caught.value.param == "hotwords"


@given(st.lists(st.text("abc 魔搭\t", max_size=5)))
def test_a_checked_list_is_not_changed_again(hotwords: list[str]) -> None:
    once = check_hotwords(hotwords, max_hotwords=1000)

    assert check_hotwords(once, max_hotwords=1000) == once
    assert "".join(once).replace(" ", "") == "".join(
        dict.fromkeys(filter(None, (" ".join(word.split()) for word in hotwords)))
    ).replace(" ", "")


def test_every_hotword_is_applied_or_ignored() -> None:
    report = report_hotwords(("魔搭", "x-1", "达摩院"), frozenset({"x-1", "other"}))

    assert report == HotwordReport(applied=("魔搭", "达摩院"), ignored=("x-1",))


def test_without_hotwords_there_is_no_report() -> None:
    assert report_hotwords((), frozenset()) is None


def test_a_long_warning_names_the_first_and_counts_the_rest() -> None:
    warning = warn_of_unspelt(tuple("abcdefg"), "paraformer-zh")

    assert warning == (
        "hotwords: the model 'paraformer-zh' has no tokens for 'a', 'b', 'c', 'd', 'e' and 2 more; "
        "not applied."
    )
