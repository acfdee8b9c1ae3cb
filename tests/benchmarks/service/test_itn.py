"""`benchmarks itn`: its table, and how a sentence becomes words."""

from __future__ import annotations

from benchmarks.service.itn import table, words_of
from deployments.core.text import join_words


def test_the_table_has_enough_sentences_and_half_of_them_must_stay() -> None:
    sentences = list(table())

    said = {sentence.said for sentence in sentences}
    assert len(sentences) == len(said) >= 300
    assert sum(sentence.must_stay for sentence in sentences) * 2 >= len(sentences)


def test_the_words_of_a_sentence_joined_are_the_sentence() -> None:
    said = ["".join(sentence.said.split()) for sentence in table()]

    assert ["".join(join_words(words_of(one)).split()) for one in said] == said


def test_a_mark_belongs_to_the_word_before_it() -> None:
    words = words_of("十、二十 GB。")

    assert [(w.text, w.mark, w.space) for w in words] == [
        ("十", "、", False),
        ("二", "", False),
        ("十", "", False),
        ("GB", "。", True),
    ]
