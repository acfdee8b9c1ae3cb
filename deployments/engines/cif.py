"""Continuous integrate-and-fire (https://arxiv.org/abs/1905.11235) on the weights alone.

FunASR loops over the frames in Python, with tensors of the hidden size; here the loop runs over
one float per frame, compiled, and the sums over hidden vectors become one matrix product. The
float32 operations on the weights are FunASR's own (`cif` and `cif_wo_hidden` in
`funasr/models/bicif_paraformer/cif_predictor.py`), in the same order, so that they fire on the
same frames.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from deployments.engines.compiled import compiled

Floats: TypeAlias = NDArray[np.float32]
Ints: TypeAlias = NDArray[np.int64]


@compiled
def _fill_token_weights(alphas: Floats, n_tokens: Ints, threshold: float, out: Floats) -> None:
    one, limit = np.float32(1.0), np.float32(threshold)
    for item in range(alphas.shape[0]):
        total, token = np.float32(0.0), 0
        wanted = n_tokens[item]
        for frame in range(alphas.shape[1]):
            alpha = alphas[item, frame]
            completion = one - total
            total = total + alpha
            fires = total >= limit
            if token < wanted:
                out[item, token, frame] = completion if fires else alpha
            if fires:
                total = total - one
                token += 1
                if token < wanted:
                    out[item, token, frame] = alpha - completion
        out[item, token:, :] = 0.0  # what did not fire is not a token


@compiled
def _find_peaks(alphas: Floats, threshold: float) -> Ints:
    limit = np.float32(threshold)
    frames = np.empty(alphas.shape[0], np.int64)
    total, count = np.float32(0.0), 0
    for frame in range(alphas.shape[0]):
        total = total + alphas[frame]
        if total >= limit:
            frames[count] = frame
            count += 1
            total = total - limit
    return frames[:count]


def token_weights(alphas: Floats, n_tokens: Ints, *, threshold: float) -> Floats:
    """How much of each frame goes into each token, (batch, max(n_tokens), n_frames) float32.

    `alphas` is (batch, n_frames), `n_tokens` (batch,). A token that never fires has no weights.
    """
    shape = (alphas.shape[0], int(n_tokens.max(initial=0)), alphas.shape[1])
    weights = np.zeros(shape, np.float32)
    _fill_token_weights(alphas, n_tokens, threshold, weights)
    return weights


def find_peaks(alphas: Floats, *, threshold: float) -> Ints:
    """The frames of (n_frames,) `alphas` at which their running sum passes `threshold`."""
    peaks: Ints = _find_peaks(alphas, threshold)
    return peaks
