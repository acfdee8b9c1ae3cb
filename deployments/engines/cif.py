"""Continuous integrate-and-fire (https://arxiv.org/abs/1905.11235) on the weights alone.

FunASR loops over the frames in Python, with tensors of the hidden size; here the loop runs over
one float per frame, compiled, and the sums over hidden vectors become one matrix product. The
float32 operations on the weights are FunASR's own (`cif` and `cif_wo_hidden` in
`funasr/models/bicif_paraformer/cif_predictor.py`), in the same order, so that they fire on the
same frames.

On a GPU a loop over frames would wait for every one of them. There the sums are a scan in float64,
and the few rows that come so near to firing that FunASR's rounding could decide otherwise
are known, and get the compiled loop's weights.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deployments.engines.compiled import compiled
from deployments.engines.packed import to_device

Floats: TypeAlias = NDArray[np.float32]
Ints: TypeAlias = NDArray[np.int64]


# Of a sum to a multiple of 1. A float32 sum below 2 over 1000 frames is off by 6e-5 at the worst.
DOUBT = 1e-4


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


@dataclass(frozen=True, slots=True)
class Scan:
    """Where each row fires, found without a loop; all on the device of the weights."""

    here: Tensor  # (batch, n_frames) float32: what a frame gives to the token that is open
    left: Tensor  # (batch, n_frames) float32: what it gives to the next one, where it fires
    token: Tensor  # (batch, n_frames) int64: the token that is open as the frame begins
    n_tokens: Tensor  # (batch,) int64
    doubtful: Tensor  # (batch,) bool: rounding decides somewhere


def scan(alphas: Tensor) -> Scan:
    """Integrate-and-fire at a threshold of 1 of (batch, n_frames) float32 weights.

    Above 1 a frame may fire twice, which the scan cannot say: such rows are doubtful.
    """
    sums = alphas.double().cumsum(1)
    fired = sums.floor()
    before = torch.nn.functional.pad(sums, (1, 0))[:, :-1]
    open_token = before.floor()
    here = torch.where(fired > open_token, open_token + 1 - before, alphas.double())
    near = (sums - sums.round()).abs() < DOUBT
    return Scan(
        here=here.float(),
        left=(alphas.double() - here).float(),
        token=open_token.long(),
        n_tokens=fired[:, -1].long(),
        doubtful=((near & (sums > 0.5)) | (alphas > 1)).any(1),
    )


def scanned_weights(found: Scan, n_tokens: Tensor, max_tokens: int) -> Tensor:
    """As `token_weights`, (batch, max_tokens, n_frames), from a scan; `n_tokens` on its device."""
    tokens = torch.arange(max_tokens, device=n_tokens.device)[None, :, None]
    here = torch.where(found.token[:, None] == tokens, found.here[:, None], 0.0)
    left = torch.where(found.token[:, None] + 1 == tokens, found.left[:, None], 0.0)
    done = torch.minimum(n_tokens, found.n_tokens)[:, None, None]
    return torch.where(tokens < done, here + left, 0.0)


def acoustic_weights(
    alphas: Tensor,
    n_tokens: Tensor,
    found: Scan | None,
    doubtful: Tensor,
    *,
    threshold: float,
    device: torch.device,
) -> Tensor:
    """`token_weights` on the device: from the scan, or from the loop where there is none.

    `alphas` and `n_tokens` are on the CPU, and so is `doubtful`, the indices of the rows where
    the scan is not to be believed.
    """
    if found is None:
        looped = token_weights(alphas.numpy(), n_tokens.numpy(), threshold=threshold)
        return to_device(torch.from_numpy(looped), device)
    max_tokens = int(n_tokens.max())
    weights = scanned_weights(found, to_device(n_tokens, device), max_tokens)
    if len(doubtful):
        looped = token_weights(
            alphas[doubtful].numpy(), n_tokens[doubtful].numpy(), threshold=threshold
        )
        places = to_device(doubtful, device)
        weights.index_fill_(0, places, 0.0)  # `weights[places] = 0.0` waits: a copy of the scalar
        weights[places, : looped.shape[1]] = to_device(torch.from_numpy(looped), device)
    return weights


def take(found: Scan, rows: Tensor) -> Scan:
    """The scan of some of the rows, by their indices on its device."""
    return Scan(*(getattr(found, field.name)[rows] for field in fields(found)))
