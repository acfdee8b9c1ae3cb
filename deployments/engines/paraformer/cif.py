"""Continuous integrate-and-fire (CIF): decides from frame weights where each token begins and ends.

CIF (https://arxiv.org/abs/1905.11235) adds up one weight per frame. Each time the sum reaches 1, a
token fires. FunASR loops over the frames in Python, with tensors of the hidden size. Here a
compiled loop runs over one float per frame, and one matrix product sums the hidden vectors. The
loop does FunASR's own float32 operations in the same order, so tokens fire on the same frames.
FunASR's functions are `cif` and `cif_wo_hidden` in
`funasr/models/bicif_paraformer/cif_predictor.py`.

On a GPU, a loop over frames would wait for the GPU at every frame. There a prefix sum in float64
takes its place. In a few rows a sum comes so near to 1 that FunASR's rounding may decide whether a
token fires. These rows are called doubtful, and their weights come from the compiled loop.
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

# A row is doubtful if a sum comes nearer than this to a whole number. A float32 sum below 2 over
# 1000 frames is wrong by at most 6e-5.
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
        out[item, token:, :] = 0.0  # a sum that did not fire is no token


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
    """The share of each frame in each token, (batch, max(n_tokens), n_frames) float32.

    `alphas` is (batch, n_frames), `n_tokens` (batch,). A token that never fires has no weights.
    """
    shape = (alphas.shape[0], int(n_tokens.max(initial=0)), alphas.shape[1])
    weights = np.zeros(shape, np.float32)
    _fill_token_weights(alphas, n_tokens, threshold, weights)
    return weights


def find_peaks(alphas: Floats, *, threshold: float) -> Ints:
    """The frames of (n_frames,) `alphas` at which the running sum reaches `threshold`."""
    peaks: Ints = _find_peaks(alphas, threshold)
    return peaks


@dataclass(frozen=True, slots=True)
class Fires:
    """Where the tokens of each row fire, found without a loop; on the device of the weights."""

    here: Tensor  # (batch, n_frames) float32: a frame's share in the token that is open
    left: Tensor  # (batch, n_frames) float32: its share in the next token, if one fires
    token: Tensor  # (batch, n_frames) int64: the token that is open as the frame begins
    n_tokens: Tensor  # (batch,) int64
    doubtful: Tensor  # (batch,) bool: rounding may decide whether a token fires


def find_fires(alphas: Tensor) -> Fires:
    """Integrate-and-fire of (batch, n_frames) float32 weights, at a threshold of 1.

    A frame with a weight above 1 may fire twice. `Fires` cannot express that, so its row is
    doubtful.
    """
    sums = alphas.double().cumsum(1)
    fired = sums.floor()
    before = torch.nn.functional.pad(sums, (1, 0))[:, :-1]
    open_token = before.floor()
    here = torch.where(fired > open_token, open_token + 1 - before, alphas.double())
    near = (sums - sums.round()).abs() < DOUBT
    return Fires(
        here=here.float(),
        left=(alphas.double() - here).float(),
        token=open_token.long(),
        n_tokens=fired[:, -1].long(),
        doubtful=((near & (sums > 0.5)) | (alphas > 1)).any(1),
    )


def scanned_weights(fires: Fires, n_tokens: Tensor, max_tokens: int) -> Tensor:
    """As `token_weights`, (batch, max_tokens, n_frames), from `fires`. All are on one device."""
    tokens = torch.arange(max_tokens, device=n_tokens.device)[None, :, None]
    here = torch.where(fires.token[:, None] == tokens, fires.here[:, None], 0.0)
    left = torch.where(fires.token[:, None] + 1 == tokens, fires.left[:, None], 0.0)
    done = torch.minimum(n_tokens, fires.n_tokens)[:, None, None]
    return torch.where(tokens < done, here + left, 0.0)


def acoustic_weights(
    alphas: Tensor,
    n_tokens: Tensor,
    fires: Fires | None,
    doubtful: Tensor,
    *,
    threshold: float,
    device: torch.device,
) -> Tensor:
    """`token_weights` on the device: from `fires`, or from the loop if `fires` is None.

    `doubtful` are the indices of the rows that the loop must decide. It is on the CPU, and so are
    `alphas` and `n_tokens`.
    """
    if fires is None:
        looped = token_weights(alphas.numpy(), n_tokens.numpy(), threshold=threshold)
        return to_device(torch.from_numpy(looped), device)
    max_tokens = int(n_tokens.max())
    weights = scanned_weights(fires, to_device(n_tokens, device), max_tokens)
    if len(doubtful):
        looped = token_weights(
            alphas[doubtful].numpy(), n_tokens[doubtful].numpy(), threshold=threshold
        )
        places = to_device(doubtful, device)
        weights.index_fill_(0, places, 0.0)  # `weights[places] = 0.0` would wait to copy 0.0
        weights[places, : looped.shape[1]] = to_device(torch.from_numpy(looped), device)
    return weights


def fires_of_rows(fires: Fires, rows: Tensor) -> Fires:
    """The fires of some of the rows. `rows` are their indices, on the same device."""
    return Fires(*(getattr(fires, field.name)[rows] for field in fields(fires)))
