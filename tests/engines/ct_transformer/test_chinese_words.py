"""Dictionary words compared with jieba's own, for whole texts and for texts in parts."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

import jieba
import pytest
from funasr.models.ct_transformer.utils import split_words
from hypothesis import given, settings
from hypothesis import strategies as st

from deployments.engines.ct_transformer.chinese_words import ChineseWords, settled_length

USER_DICT = "市长江 500 n\n谢一下\n好东西 3\n\n不了主 20 v\n"
CHINESE = "一下 不了 了主 主人 好好 好东西 谢谢 南京市 市长 长江大桥 中国银行 行长 和尚 尚未 结婚"
FOREIGN = "hello don't T A 3 2024 5G U.S. c++ ， ß 恤 股"  # characters that jieba splits or joins
PIECES = st.sampled_from([*CHINESE.split(), *FOREIGN.split(), *"一下不了主人好谢市长江行"])
# The engine's words: a character or a run of ASCII. The pieces make words that overlap.
TEXTS = st.lists(PIECES, max_size=20).map(lambda pieces: split_words(" ".join(pieces)))


@pytest.fixture(scope="module")
def user_dict(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("dictionary") / "jieba_usr_dict"
    path.write_text(USER_DICT, "utf-8")
    return path


@pytest.fixture(scope="module")
def chinese(user_dict: Path) -> ChineseWords:
    return ChineseWords(user_dict)


@pytest.fixture(scope="module")
def original(user_dict: Path) -> jieba.Tokenizer:
    """jieba as FunASR uses it, with its cache beside the dictionary."""
    tokenizer = jieba.Tokenizer()
    tokenizer.tmp_dir = str(user_dict.parent)
    with user_dict.open("rb") as file:
        tokenizer.load_userdict(file)
    return tokenizer


@pytest.mark.slow
@given(words=TEXTS)
@settings(max_examples=300, deadline=None)
def test_words_are_cut_as_by_jieba_or_in_an_equally_probable_way(
    chinese: ChineseWords, original: jieba.Tokenizer, words: list[str]
) -> None:
    expected = split_words(" ".join(words), original)

    found = chinese.cut(words)

    # The same tokens in any order are equally probable: their probabilities are multiplied.
    assert sorted(found) == sorted(expected)
    assert "".join(found) == "".join(words)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("南京市长江大桥", "南京市 长江大桥"),
        ("研究生命起源", "研究 生命 起源"),
        ("谢一下", "谢一下"),  # the user dictionary's
        ("卡 拉 OK", "卡拉 OK"),  # English stays apart from 卡拉OK
        ("T 恤", "T 恤"),
        ("5T 恤", "5 T恤"),  # but 5T is not English
        ("3 2024 年", "32024 年"),
        ("U.S.", "U . S ."),
    ],
)
def test_a_text_is_cut_as_by_jieba(
    chinese: ChineseWords, original: jieba.Tokenizer, text: str, tokens: str
) -> None:
    words = split_words(text)

    assert chinese.cut(words) == tokens.split()
    assert split_words(" ".join(words), original) == tokens.split()


@given(words=TEXTS, n_known=st.integers(0, 40))
@settings(max_examples=300, deadline=None)
def test_tokens_given_early_do_not_change(
    chinese: ChineseWords, words: list[str], n_known: int
) -> None:
    whole = chinese.cut(words)

    early = chinese.cut(words[:n_known], final=False)

    assert early == whole[: len(early)]


def ends(parts: Sequence[str]) -> list[int]:
    """The number of characters up to the end of each part."""
    return list(accumulate(map(len, parts)))


@given(words=TEXTS)
@settings(max_examples=300, deadline=None)
def test_the_words_of_some_tokens_are_cut_into_the_same_tokens(
    chinese: ChineseWords, words: list[str]
) -> None:
    """Carry and pending need this: each is cut by itself, between the ends of two tokens."""
    tokens = chinese.cut(words)
    token_ends = set(ends(tokens))
    splits = [n + 1 for n, end in enumerate(ends(words)) if end in token_ends]

    found = [chinese.cut(words[:n]) + chinese.cut(words[n:]) for n in splits]

    assert found == [tokens] * len(splits)


def test_of_equally_probable_ways_the_longest_first_word_wins(
    chinese: ChineseWords, original: jieba.Tokenizer
) -> None:
    tail = "中国银行的主人在南京市长江大桥上尚未结婚" * 5
    texts = ["好好好" + tail[:n] for n in range(100)]

    found = {" ".join(chinese.cut(tuple(text))[:2]) for text in texts}

    assert found == {"好好 好"}
    # jieba's choice depends on rounding, and so on the text that follows
    assert {" ".join(original.lcut(text, HMM=False)[:2]) for text in texts} == {
        "好好 好",
        "好 好好",
    }


def test_a_long_chinese_text_is_not_held_back(chinese: ChineseWords) -> None:
    text = "我们今天在南京市长江大桥上看到了研究生命起源的人" * 100

    held_back = [n - len("".join(chinese.cut(text[:n], final=False))) for n in range(300)]

    assert max(held_back) <= 8


@pytest.mark.parametrize(
    ("text", "n_settled"),
    [
        ("", 0),
        ("x", 0),  # may be joined to a letter that follows
        ("水", 1),  # no word begins with it
        ("甲", 0),  # 甲乙 may follow
        ("甲乙", 0),  # 乙丙 or 甲乙丙丁 may follow
        ("甲乙丙", 0),  # 甲乙丙丁 may follow
        ("甲乙丙水", 4),
        ("水甲", 1),
        ("甲水", 2),
        ("x甲", 1),
        ("5x水", 3),
        ("水5x", 1),
    ],
)
def test_text_is_settled_up_to_where_no_word_reaches_over(text: str, n_settled: int) -> None:
    dictionary = {"甲": 5, "甲乙": 3, "乙丙": 2, "乙": 0, "甲乙丙": 0, "甲乙丙丁": 1}

    assert settled_length(text, dictionary) == n_settled


def test_loading_writes_nothing(
    user_dict: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    ChineseWords(user_dict).cut(["好"])

    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")
