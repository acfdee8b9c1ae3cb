"""From a segment's tokens and frame weights to words with times, by FunASR's rules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from deployments.core.text import join_words
from deployments.core.types import Recognition
from deployments.engines.checkpoint import sentence_postprocess
from deployments.engines.paraformer.timestamps import Times, fit_words, pad_times, token_times


@dataclass(frozen=True, slots=True)
class Reading:
    """A segment's words and times as FunASR gives them, before they are fitted into the segment."""

    texts: tuple[str, ...] = ()
    times_ms: tuple[tuple[int, int], ...] = ()


def read_tokens(tokens: Sequence[str], upsampled: Tensor | None, n_tokens: int) -> Reading:
    """The words and times of a segment's tokens. `tokens` does not hold the silent ones.

    `upsampled` are the segment's weights for the word times, (3 * n_frames,) float32 on the CPU.
    Without them, all times are 0. `n_tokens` is the decoder's number of tokens, the silent ones
    included.
    """
    if not tokens:
        return Reading()
    if upsampled is None:
        return postprocess(list(tokens), pad_times([], len(tokens)))
    # Divide a tensor, not a number, by a tensor: torch computes the latter as a product, which is
    # rounded differently.
    scale = torch.tensor([n_tokens]) / upsampled.clone().unsqueeze(0).sum(-1)
    times = pad_times(token_times(upsampled * scale, len(tokens)), len(tokens))
    return postprocess(list(tokens), times)


def postprocess(tokens: list[str], times: Times) -> Reading:
    """Joins tokens into words as FunASR does: parts of a word, and the letters of an abbreviation.

    FunASR fails if two tokens without a time, such as "&", precede an abbreviation. All words of
    that segment then share one time.
    """
    try:
        _, word_times, texts = sentence_postprocess(tokens, times)
    except IndexError:
        _, texts = sentence_postprocess(tokens)
        word_times = [(times[0][0], times[-1][1])]
    return Reading(tuple(texts), tuple((start, end) for start, end in word_times))


def recognise(reading: Reading, *, n_ms: int) -> Recognition:
    """The recognition of a segment of `n_ms`, with all word times inside it."""
    words = tuple(fit_words(reading.texts, reading.times_ms, n_ms=n_ms))
    return Recognition(join_words(words), words)
