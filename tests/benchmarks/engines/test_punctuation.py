"""The comparison of punctuation engines: which texts count as identical, and the figures."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
import torch

from benchmarks.engines.punctuation import Compared, compared, drawn_document, run
from benchmarks.material.random_models import Size
from deployments.core.types import MarkedWord, PunctuationStep, PunctuationTask


class FullStops:
    """Ends every document with a full stop; stands in for FunASR and for an engine."""

    def generate(self, item: str) -> dict[str, str]:
        return {"text": item + "。"}

    def punctuate(self, batch: Sequence[PunctuationTask]) -> list[PunctuationStep]:
        return [
            PunctuationStep((*map(MarkedWord, task.words[:-1]), MarkedWord(task.words[-1], "。")))
            for task in batch
        ]


def test_documents_that_come_out_different_are_counted() -> None:
    same, other = ("好",), ("好", "吗")  # FunASR is given the words with spaces between

    result = compared(FullStops(), FullStops(), [same, other, same], repeats=1)

    assert result.n_different == 1


def test_funasr_has_its_own_threads_and_the_engine_one() -> None:
    seen: list[tuple[str, int]] = []

    class Noting(FullStops):
        def generate(self, item: str) -> dict[str, str]:
            seen.append(("funasr", torch.get_num_threads()))
            return super().generate(item)

        def punctuate(self, batch: Sequence[PunctuationTask]) -> list[PunctuationStep]:
            seen.append(("engine", torch.get_num_threads()))
            return super().punctuate(batch)

    compared(Noting(), Noting(), [("好",)], repeats=2, n_threads=3)

    assert seen[2:] == [("engine", 1), ("funasr", 3)] * 2
    assert torch.get_num_threads() == 1


def test_the_speedup_is_the_median_over_neighbouring_rounds() -> None:
    result = Compared()
    result.rounds = [(1.0, 2.0), (9.0, 9.0), (1.0, 3.0)]

    assert result.speedup == 2.0


def test_a_document_has_words_of_the_vocabulary_and_no_specials() -> None:
    words = drawn_document(200, ["<blank>", "<s>", "</s>", "一", "ba", "<unk>"], random.Random(0))

    assert set(words) == {"一", "ba"}


@pytest.mark.slow
def test_a_small_run_finds_the_texts_identical() -> None:
    figures = run(documents=3, words=50, long_words=70, repeats=1, size=Size.TINY)

    assert (figures["identical"], figures["documents_that_differ"]) == (1, 0)
    assert figures["batch3_speedup"] != 0
