"""Punctuation with a dictionary of words, compared with FunASR's, whole and in parts."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import jieba
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.engines.automodel import AutoModelAlone
from benchmarks.material.random_models import Punc, write_punctuation
from deployments.core.errors import ModelUnavailable
from deployments.core.types import MarkedWord, PunctuationStep, PunctuationTask
from deployments.engines.ct_transformer.chinese_words import ChineseWords
from deployments.engines.ct_transformer.engine import CtTransformer
from deployments.engines.protocols import EngineSettings
from tests.engines.documents import grown, printed

# Sentences in words of jieba's dictionary and of USER_DICT: the vocabulary; some overlap.
SENTENCES = [
    sentence.split()
    for sentence in (
        "今天 我们 讨论 一下 语音识别 的 问题",
        "这个 模型 的 速度 比 以前 快 了 很多",
        "南京市 长江大桥 上 的 车 很 多",
        "研究 生命 起源 的 科学家 说 不 一定",
        "结婚 的 和 尚未 结婚 的 都 要 登记",
        "乒乓球 拍卖 完 了 吗",
        "他 说 的 确实 在理",
        "大家 好 欢迎 收看 节目",
        "北京大学 的 学生 前来 应聘",
        "云端 推理 成本 下降 了 百分之 二十",
        "那么 接下来 请 主持人 介绍",
        "门 把手 弄坏 了 怎么办",
    )
]
FOREIGN = ("hello", "World", "iPhone", "don't", "3", "2024", "5G", "U.S.", "3.5", "ok,", "really?")
USER_DICT = ("语音识别 1000 n", "云端推理", "长江大桥上 5", "不一定 n", "尚未结婚")
TOKENS = ["<blank>", "<s>", "</s>"]
TOKENS += dict.fromkeys([word for sentence in SENTENCES for word in sentence] + [*FOREIGN, "."])
TOKENS += ["<unk>"]
LENGTHS = (1, 2, 3, 5, 30, 31, 32, 33, 34, 60, 61, 62, 100, 250, 400, 800)


def drawn_words(seed: int) -> tuple[str, ...]:
    """A document in the engine's words; every fourth is all Chinese."""
    rng = random.Random(seed)
    p_foreign = 0.0 if seed % 4 == 0 else 0.4
    words: list[str] = []
    while len(words) < LENGTHS[seed % len(LENGTHS)]:
        words += "".join(rng.choice(SENTENCES))
        words += [rng.choice(FOREIGN)] if rng.random() < p_foreign else []
    return tuple(words[: LENGTHS[seed % len(LENGTHS)]])


DOCUMENTS = [*(drawn_words(seed) for seed in range(50)), ()]


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_punctuation(
        tmp_path_factory.mktemp("punc-dictionary"),
        variant=Punc.CN_EN,
        tokens=TOKENS + [f"<unused{i}>" for i in range(10)],
        user_dict=USER_DICT,
    )


@pytest.fixture(scope="module")
def engine(model_dir: Path) -> CtTransformer:
    return CtTransformer(model_dir, EngineSettings())


@pytest.fixture(scope="module")
def expected(model_dir: Path) -> list[str]:
    jieba.dt.tmp_dir = str(model_dir.parent)  # where FunASR's jieba writes its cache
    reference = AutoModelAlone(model_dir)
    return [reference.generate(" ".join(words)).get("text", "") for words in DOCUMENTS]


def test_most_words_of_the_documents_are_in_the_vocabulary(model_dir: Path) -> None:
    """Otherwise the marks would not depend on the words, and the comparisons would prove little."""
    chinese = ChineseWords(model_dir / "jieba_usr_dict")
    tokens = [token for words in DOCUMENTS for token in chinese.cut(words)]

    n_known = sum(token in {*TOKENS, "云端推理", "尚未结婚"} for token in tokens)

    assert n_known > 0.8 * len(tokens)
    assert any(len(chinese.cut(words)) > 200 for words in DOCUMENTS)
    assert {"云端推理", "语音识别"} <= set(tokens)


@pytest.mark.slow
def test_a_text_alone_is_marked_as_in_funasr(engine: CtTransformer, expected: list[str]) -> None:
    found = [printed(engine.punctuate([PunctuationTask(words)])[0].done) for words in DOCUMENTS]

    assert found == expected


@pytest.mark.slow
def test_texts_in_a_batch_are_marked_as_in_funasr(
    engine: CtTransformer, expected: list[str]
) -> None:
    steps = engine.punctuate([PunctuationTask(words) for words in DOCUMENTS])

    assert [printed(step.done) for step in steps] == expected


def test_a_text_that_comes_in_bits_is_marked_as_in_funasr(
    engine: CtTransformer, expected: list[str]
) -> None:
    found = [grown(engine, words, seed) for seed, words in enumerate(DOCUMENTS)]

    assert found == expected


@given(
    words=st.lists(st.sampled_from([*"好谢一下不了主人的和尚未结婚", "5", "U.S.", "hello"])),
    seed=st.integers(0, 1000),
)
@settings(max_examples=100, deadline=None)
def test_marks_do_not_depend_on_how_the_words_came(
    engine: CtTransformer, words: list[str], seed: int
) -> None:
    (whole,) = engine.punctuate([PunctuationTask(tuple(words))])

    assert grown(engine, words, seed) == printed(whole.done)
    assert len(whole.done) == len(words)


def test_a_mark_stands_behind_the_last_character_of_a_dictionary_word(
    engine: CtTransformer,
) -> None:
    (step,) = engine.punctuate([PunctuationTask(tuple("语音识别"))])

    assert step.done == (*map(MarkedWord, "语音识"), MarkedWord("别", step.done[-1].mark))
    assert step.done[-1].mark != ""


def test_a_word_that_may_go_on_is_held_back(engine: CtTransformer) -> None:
    words = tuple("的好" * 10 + "语音识")

    (step,) = engine.punctuate([PunctuationTask(words, final=False)])

    assert (step.done, step.carry + step.pending) == ((), words)


def test_a_step_never_parts_a_word(engine: CtTransformer) -> None:
    """20 tokens end inside the last word, "U.S.". The step waits for the text after it."""
    words = (*"的好" * 9, "U.S.", *"的好" * 5)

    (step,) = engine.punctuate([PunctuationTask(words, final=False)])

    assert step == PunctuationStep((), (), words)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", None])
def test_an_unreadable_dictionary_is_refused(
    model_dir: Path, tmp_path: Path, content: bytes | None
) -> None:
    broken = Path(shutil.copytree(model_dir, tmp_path / "punc"))
    path = broken / "jieba_usr_dict"
    path.unlink()
    path.mkdir() if content is None else path.write_bytes(content)

    with pytest.raises(ModelUnavailable, match=r"jieba_usr_dict|utf-8"):
        CtTransformer(broken, EngineSettings())
