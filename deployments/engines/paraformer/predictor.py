"""Paraformer's predictor (`CifPredictorV3`): frame weights for tokens and for word times.

It works on packed rows. FunASR's own reads the padding too, and runs the LSTM of the word times
twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence

from deployments.engines.packed import Rows, to_device


def frame_weights(predictor: Any, hidden: Tensor, rows: Rows) -> Tensor:
    """The weight of each frame for the tokens, (n_items, longest) float32, 0 after an item's end.

    `hidden` is (n_rows, dim) float32.
    """
    padded = rows.pad(hidden).transpose(1, 2)
    context = torch.relu(predictor.cif_conv1d(predictor.pad(padded))).transpose(1, 2)
    weights = torch.sigmoid(predictor.cif_output(context))
    scaled = torch.relu(weights * predictor.smooth_factor - predictor.noise_threshold)
    return scaled.squeeze(-1) * rows.mask


def add_tail(weights: Tensor, rows: Rows, tail: float) -> Tensor:
    """Adds a frame of weight `tail` after each item's last, to complete its last token.

    Returns (n_items, longest + 1).
    """
    places = torch.arange(weights.shape[1] + 1, device=weights.device)
    after_last = places == rows.lengths_on_device[:, None]
    return torch.nn.functional.pad(weights, (0, 1)) + after_last * tail


def time_weights(predictor: Any, hidden: Tensor, rows: Rows) -> Tensor:
    """The weights for the word times, (n_items, times * longest) float32, in one LSTM pass.

    `times` is the predictor's upsampling: the number of weights for each frame.
    """
    times = predictor.upsample_times
    frames = rows.times(times)
    upsampled = upsample(predictor.upsample_cnn, hidden.to(predictor.upsample_cnn.weight.dtype))
    states = run_lstm(predictor.blstm, frames.pad(upsampled), frames.lengths)
    weights = torch.sigmoid(predictor.cif_output2(states.float()))
    scaled = torch.relu(weights * predictor.smooth_factor2 - predictor.noise_threshold2)
    return scaled.squeeze(-1) * frames.mask


def run_lstm(lstm: torch.nn.Module, padded: Tensor, lengths: Sequence[int]) -> Tensor:
    """The LSTM's states over each item alone, (n_items, longest, dim of a state).

    `padded` is (n_items, longest, dim). The items are sorted here, by lengths that the host knows.
    torch's `enforce_sorted=False` sorts on the host as well, but waits for the device twice.
    """
    if len(lengths) == 1:
        alone: Tensor = lstm(padded)[0]
        return alone
    if not isinstance(lstm, torch.nn.LSTM):
        # `int8.int8_lstm` has one scale for all rows of a call. One item at a time, results do not
        # depend on the batch. This costs 3 % of the time of batches of 10 s (measured).
        each = [lstm(padded[i : i + 1, :n])[0][0] for i, n in enumerate(lengths)]
        return pad_sequence(each, batch_first=True)
    order = np.argsort(-np.array(lengths), kind="stable")
    in_order = bool((order[1:] > order[:-1]).all())
    if not in_order:
        padded = padded.index_select(0, to_device(torch.from_numpy(order), padded.device))
    packed = pack_padded_sequence(padded, torch.tensor(lengths)[order], batch_first=True)
    states, _ = pad_packed_sequence(lstm(packed)[0], batch_first=True)
    if not in_order:
        back = torch.from_numpy(np.argsort(order))
        states = states.index_select(0, to_device(back, states.device))
    return states


def upsample(convolution: torch.nn.ConvTranspose1d, hidden: Tensor) -> Tensor:
    """Turns each row into `times` rows.

    The transposed convolution's stride equals its width, so it is computed as a matrix product.
    """
    weight = convolution.weight.permute(2, 1, 0).flatten(0, 1)  # (times * dim, dim)
    bias = None
    if convolution.bias is not None:
        bias = convolution.bias.repeat(convolution.kernel_size[0])
    rows = torch.nn.functional.linear(hidden, weight, bias)
    return rows.view(-1, convolution.out_channels)
