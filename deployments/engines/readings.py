"""From a segment's tokens and frame weights to words with times, as FunASR makes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from deployments.core.text import join_words
from deployments.core.types import Recognition
from deployments.engines.checkpoint import sentence_postprocess
from deployments.engines.timestamps import Times, fit_words, pad_times, token_times


@dataclass(frozen=True, slots=True)
class Reading:
    """FunASR's own words and times of a segment, before they are fitted into it."""

    texts: tuple[str, ...] = ()
    times_ms: tuple[tuple[int, int], ...] = ()


def read_tokens(tokens: Sequence[str], upsampled: Tensor, n_tokens: int) -> Reading:
    """The words of the tokens that are said.

    `upsampled` are the segment's own weights for the times, (3 * n_frames,) float32 on the CPU;
    `n_tokens` are the decoder's, silent ones with them.
    """
    if not tokens:
        return Reading()
    # tensor by tensor: torch turns a number by a tensor into a product, rounded otherwise
    scale = torch.tensor([n_tokens]) / upsampled.clone().unsqueeze(0).sum(-1)
    times = pad_times(token_times(upsampled * scale, len(tokens)), len(tokens))
    return postprocess(list(tokens), times)


def postprocess(tokens: list[str], times: Times) -> Reading:
    """The tokens as FunASR's words: parts joined, single letters as one abbreviation.

    FunASR fails where two tokens without a time, such as "&", stand before an abbreviation. Such
    a segment gets the words, and one time for all of them.
    """
    try:
        _, word_times, texts = sentence_postprocess(tokens, times)
    except IndexError:
        _, texts = sentence_postprocess(tokens)
        word_times = [(times[0][0], times[-1][1])]
    return Reading(tuple(texts), tuple((start, end) for start, end in word_times))


def recognise(reading: Reading, *, n_ms: int) -> Recognition:
    """The reading of a segment of `n_ms`, with words inside it."""
    words = tuple(fit_words(reading.texts, reading.times_ms, n_ms=n_ms))
    return Recognition(join_words(words), words)
