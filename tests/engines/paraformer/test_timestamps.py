"""Token and word times compared with FunASR's functions, on random weights and tokens."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from funasr.models.bicif_paraformer.cif_predictor import cif, cif_wo_hidden
from funasr.utils.postprocess_utils import sentence_postprocess
from funasr.utils.timestamp_tools import ts_prediction_lfr6_standard
from hypothesis import given
from hypothesis import strategies as st

from deployments.core.types import Word
from deployments.engines.paraformer.cif import token_weights
from deployments.engines.paraformer.readings import postprocess
from deployments.engines.paraformer.timestamps import fit_words, pad_times, split_word, token_times

TOKENS = ["中", "国", "hello", "o@@", "k", "a", "b", "3", "0@@", "<unk>", "it's"]
UNTIMED = [*TOKENS, "&", "."]


def drawn(seed: int, n_tokens: int, n_frames: int, *, scale: float = 1.0) -> torch.Tensor:
    """Upsampled weights that sum to `scale * n_tokens`."""
    alphas = torch.rand(n_frames, generator=torch.Generator().manual_seed(seed)) ** 3
    return alphas * (scale * n_tokens / alphas.sum())


@pytest.mark.parametrize("scale", [0.7, 1.0, 1.3])
@pytest.mark.parametrize("seed", range(20))
def test_token_times_are_those_of_funasr(seed: int, scale: float) -> None:
    n_tokens = 1 + seed
    alphas = drawn(seed, n_tokens, 40 + 7 * seed, scale=scale)
    peaks = cif_wo_hidden(alphas[None], 1 - 1e-4)[0]
    _, expected = ts_prediction_lfr6_standard(alphas.clone(), peaks, ["x"] * n_tokens)

    found = token_times(alphas, n_tokens)

    assert [list(pair) for pair in found] == expected


@pytest.mark.parametrize("seed", range(10))
def test_token_weights_make_the_vectors_of_funasr(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(2, 50, 8, generator=generator)
    alphas = torch.rand(2, 50, generator=generator) * 0.6
    expected, _ = cif(hidden, alphas, 1.0)
    n_tokens = alphas.sum(-1).floor().long()

    weights = token_weights(alphas.numpy(), n_tokens.numpy(), threshold=1.0)

    found = torch.from_numpy(weights) @ hidden
    expected = expected[:, : found.shape[1]]
    expected = expected * (torch.arange(found.shape[1]) < n_tokens[:, None])[:, :, None]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@given(st.lists(st.sampled_from(TOKENS), min_size=1, max_size=12))
def test_words_are_those_of_funasr(tokens: list[str]) -> None:
    times = [(i * 100, i * 100 + 90) for i in range(len(tokens))]
    _, expected_times, expected_texts = sentence_postprocess(list(tokens), times)

    reading = postprocess(tokens, times)

    assert reading.texts == tuple(expected_texts)
    assert reading.times_ms == tuple(tuple(pair) for pair in expected_times)


@given(st.lists(st.sampled_from(UNTIMED), max_size=12), st.integers(0, 12), st.integers(0, 900))
def test_any_tokens_make_words_inside_the_segment(
    tokens: list[str], n_times: int, n_ms: int
) -> None:
    times = pad_times([(i * 100 - 30, i * 100 + 70) for i in range(n_times)], len(tokens))

    reading = postprocess(tokens, times)
    words = fit_words(reading.texts, reading.times_ms, n_ms=n_ms)

    clock = [0, *(t for word in words for t in (word.start_ms, word.end_ms)), n_ms]
    assert clock == sorted(clock)
    assert "".join(word.text for word in words) == "".join(reading.texts)


def test_foreign_neighbours_are_spaced_and_chinese_is_not() -> None:
    words = fit_words(["我", "ok", "go", "的"], [(0, 1), (1, 2), (2, 3), (3, 4)], n_ms=9)

    assert [word.space for word in words] == [False, False, True, False]


def test_a_word_without_a_time_stands_at_the_end_of_the_last() -> None:
    words = fit_words(["我", "&"], [(10, 20)], n_ms=100)

    assert words[1] == Word("&", 20, 20)


@pytest.mark.parametrize(
    ("text", "parts"), [("hello", ["hello"]), ("o𫖯k", ["o", "𫖯", "k"]), ("中国", ["中", "国"])]
)
def test_a_word_is_taken_apart_as_the_punctuation_model_does(text: str, parts: list[str]) -> None:
    assert split_word(text) == parts


def test_no_token_needs_no_time() -> None:
    assert token_times(torch.from_numpy(np.zeros(9, np.float32)), 0) == []


def test_weights_that_never_fire_give_no_time() -> None:
    assert token_times(torch.zeros(9), 2) == []
