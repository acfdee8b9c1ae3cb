"""The punctuation engine compared with FunASR's, for whole texts and for texts in parts."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from funasr.models.ct_transformer.utils import split_words
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.engines.automodel import AutoModelAlone
from deployments.core.types import MarkedWord, PunctuationTask
from deployments.engines.ct_transformer.engine import CtTransformer, end_text, spread
from deployments.engines.ct_transformer.pieces import cut_sentences
from deployments.engines.protocols import EngineSettings
from tests.engines.documents import grown, printed

FOREIGN = ("hello", "World", "iPhone", "3", "2024", "ba", "U.S.", "don't", "ok,", "really?")
LENGTHS = (1, 2, 3, 5, 19, 20, 21, 22, 39, 40, 41, 60, 61, 100, 150, 230)


def drawn_text(seed: int, n_words: int | None = None) -> str:
    """Words for FunASR; every fourth text is all Chinese, every eighth all foreign."""
    rng = random.Random(seed)
    p_foreign = {0: 0.0, 1: 1.0}.get(seed % 4 + seed % 8, 0.25)
    words = [
        rng.choice(FOREIGN) if rng.random() < p_foreign else chr(0x4E00 + rng.randint(0, 160))
        for _ in range(n_words or LENGTHS[seed % len(LENGTHS)])
    ]
    return " ".join(words)


LONG = drawn_text(50, n_words=1500)  # read from several places at once
TEXTS = [*(drawn_text(seed) for seed in range(50)), "", "  ", LONG]


@pytest.fixture(scope="module")
def engine(punctuation_dir: Path) -> CtTransformer:
    return CtTransformer(punctuation_dir, EngineSettings())


@pytest.fixture(scope="module")
def reference(punctuation_dir: Path) -> AutoModelAlone:
    return AutoModelAlone(punctuation_dir)


@pytest.fixture(scope="module")
def expected(reference: AutoModelAlone) -> list[str]:
    return [reference.generate(text).get("text", "") for text in TEXTS]


def test_a_text_alone_is_marked_as_in_funasr(engine: CtTransformer, expected: list[str]) -> None:
    tasks = [PunctuationTask(tuple(split_words(text))) for text in TEXTS]

    found = [printed(engine.punctuate([task])[0].done) for task in tasks]

    assert found == expected


def test_texts_in_a_batch_are_marked_as_in_funasr(
    engine: CtTransformer, expected: list[str]
) -> None:
    steps = engine.punctuate([PunctuationTask(tuple(split_words(text))) for text in TEXTS])

    assert [printed(step.done) for step in steps] == expected
    assert {step.carry + step.pending for step in steps} == {()}


def test_a_text_that_comes_in_bits_is_marked_as_in_funasr(
    engine: CtTransformer, expected: list[str]
) -> None:
    found = [grown(engine, split_words(text), seed) for seed, text in enumerate(TEXTS)]

    assert found == expected


def test_words_done_correspond_to_words_given(engine: CtTransformer) -> None:
    words = tuple(split_words(TEXTS[15]))

    (step,) = engine.punctuate([PunctuationTask(words)])

    assert [word.text.lower() for word in step.done] == [word.lower() for word in words]


def test_a_full_piece_waits_for_the_word_behind_it(engine: CtTransformer) -> None:
    words = tuple("一" * 20)

    (waits,) = engine.punctuate([PunctuationTask(words, final=False)])
    (reads,) = engine.punctuate([PunctuationTask((*words, "丁"), final=False)])

    assert (waits.done, waits.carry, waits.pending) == ((), (), words)
    assert (len(reads.done) + len(reads.carry), reads.pending) == (20, ("丁",))


@pytest.fixture(scope="module")
def windowed(punctuation_dir: Path) -> CtTransformer:
    return CtTransformer(punctuation_dir, EngineSettings(punctuation="windowed"))


def test_in_windows_marks_do_not_depend_on_how_the_words_came(windowed: CtTransformer) -> None:
    words = split_words(LONG)
    whole, other = windowed.punctuate([PunctuationTask(tuple(words)), PunctuationTask(("好",))])

    found = [grown(windowed, words, seed) for seed in range(3)]

    assert found == [printed(whole.done)] * 3
    assert printed(other.done)[-1] == "。"


def test_in_windows_every_word_is_kept_and_the_last_sentence_ends(
    windowed: CtTransformer,
) -> None:
    texts = [tuple(split_words(text)) for text in TEXTS if text.strip()]

    steps = windowed.punctuate([PunctuationTask(words) for words in texts])

    assert [[w.text.lower() for w in step.done] for step in steps] == [
        [word.lower() for word in words] for words in texts
    ]
    assert {printed(step.done)[-1] for step in steps} <= set("。？.?")


def test_windows_differ_from_funasr_in_few_marks(
    engine: CtTransformer, windowed: CtTransformer
) -> None:
    """Weights are random. A wrong window (a lost overlap, a shifted mark) breaks the bound."""
    task = PunctuationTask(tuple(split_words(LONG)))

    pairs = zip(engine.punctuate([task])[0].done, windowed.punctuate([task])[0].done, strict=True)
    n_different = sum(exact.mark != other.mark for exact, other in pairs)

    assert n_different <= 0.05 * len(task.words)


@given(
    documents=st.lists(
        st.lists(st.sampled_from([*"一丁七万丈三上", *FOREIGN]), max_size=70),
        min_size=1,
        max_size=4,
    ),
    seed=st.integers(0, 1000),
)
@settings(max_examples=30, deadline=None)
def test_any_documents_in_bits_or_batches_are_marked_as_in_funasr(
    engine: CtTransformer, reference: AutoModelAlone, documents: list[list[str]], seed: int
) -> None:
    words = [split_words(" ".join(document)) for document in documents]
    expected = [reference.generate(" ".join(document)).get("text", "") for document in words]

    steps = engine.punctuate([PunctuationTask(tuple(document)) for document in words])

    assert [printed(step.done) for step in steps] == expected
    assert [grown(engine, document, seed) for document in words] == expected
    assert [len(step.done) for step in steps] == [len(document) for document in words]


def test_an_empty_batch_gives_nothing(engine: CtTransformer) -> None:
    assert engine.punctuate([]) == []


@pytest.mark.parametrize(
    ("marks", "n_done"),
    [
        ("__。__", 3),
        ("。。__", 0),  # the first two words and the last never end a sentence
        ("____。", 0),
        ("__，__", 0),
        ("_" * 150 + "，" + "_" * 50, 151),
        ("_" * 150 + "，" + "_" * 49, 0),
        ("__？" + "_" * 150 + "，" + "_" * 50, 3),
    ],
)
def test_sentences_are_cut_where_they_are_sure(marks: str, n_done: int) -> None:
    assert cut_sentences(list(marks), "。")[0] == n_done


@pytest.mark.parametrize(
    ("tokens", "words", "expected"),
    [
        ([MarkedWord("好"), MarkedWord("吧", "，")], "好 吧", [("好", ""), ("吧", "，")]),
        ([MarkedWord("好吧", "，")], "好 吧", [("好", ""), ("吧", "，")]),
        (
            [MarkedWord("U", ".", True), MarkedWord(".", ",", True), MarkedWord("S", "", True)],
            "U.S",
            [(" U. ., S", "")],
        ),
        ([MarkedWord("5", "", True), MarkedWord("T恤", ",")], "5T 恤", [(" 5T", ""), ("恤", ",")]),
        ([MarkedWord("32", "、", True)], "3 2", [(" 3", ""), ("2", "、")]),
    ],
)
def test_printed_tokens_are_divided_into_the_words_given(
    tokens: list[MarkedWord], words: str, expected: list[tuple[str, str]]
) -> None:
    found = spread(tokens, words.split())

    assert [((" " if w.space else "") + w.text, w.mark) for w in found] == expected


@pytest.mark.parametrize(
    ("word", "ends"),
    [
        (MarkedWord("好", ""), "好。"),
        (MarkedWord("好", "，"), "好。"),
        (MarkedWord("好", "、"), "好。"),
        (MarkedWord("好", "？"), "好？"),
        (MarkedWord("ok", ""), "ok."),
        (MarkedWord("ok", ","), "ok."),
        (MarkedWord("ok", "、"), "ok。"),
        (MarkedWord("ok,", ""), "ok."),
        (MarkedWord("U.S.", ""), "U.S."),
    ],
)
def test_a_text_ends_in_a_full_stop_or_a_question_mark(word: MarkedWord, ends: str) -> None:
    assert printed(end_text([word])) == ends


@pytest.mark.parametrize(
    ("n_words", "comma_at", "n_done"),
    [
        (200, 50, 0),  # short enough to wait for a full stop
        (201, 50, 51),  # FunASR's limit: the last comma ends the sentence
        (2000, None, 0),  # FunASR would wait for ever
        (2001, None, 2000),
    ],
)
def test_a_sentence_that_does_not_end_is_ended(
    n_words: int, comma_at: int | None, n_done: int
) -> None:
    marks = ["，" if i == comma_at else "_" for i in range(n_words)]

    done, marked = cut_sentences(marks, "。")

    assert done == n_done
    assert marked[:done][-1:] == (["。"] if n_done else [])
