"""The predictor of SeACo- and BiCif-Paraformer (`CifPredictorV3`) on packed rows: two weights.

FunASR's own reads the padded frames and runs the LSTM of the word times twice, over padding too.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from deployments.engines.packed import Rows


def frame_weights(predictor: Any, hidden: Tensor, rows: Rows) -> Tensor:
    """The weight of each frame for the tokens, (n_items, longest) float32, zero after an item.

    `hidden` is (n_rows, dim) float32.
    """
    padded = rows.pad(hidden).transpose(1, 2)
    context = torch.relu(predictor.cif_conv1d(predictor.pad(padded))).transpose(1, 2)
    weights = torch.sigmoid(predictor.cif_output(context))
    scaled = torch.relu(weights * predictor.smooth_factor - predictor.noise_threshold)
    return scaled.squeeze(-1) * rows.mask


def add_tail(weights: Tensor, rows: Rows, tail: float) -> Tensor:
    """(n_items, longest + 1): one more frame after an item's last, which completes its token."""
    places = torch.arange(weights.shape[1] + 1, device=weights.device)
    after_last = places == rows.lengths_on_device[:, None]
    return torch.nn.functional.pad(weights, (0, 1)) + after_last * tail


def time_weights(predictor: Any, hidden: Tensor, rows: Rows) -> Tensor:
    """The weights that time the tokens, (n_items, times * longest) float32, one LSTM pass.

    `times` is the predictor's upsampling: so many weights for each frame.
    """
    times = predictor.upsample_times
    frames = rows.times(times)
    upsampled = upsample(predictor.upsample_cnn, hidden.to(predictor.upsample_cnn.weight.dtype))
    if len(rows.lengths) == 1:
        states, _ = predictor.blstm(upsampled.unsqueeze(0))
    else:  # packed: the backward direction must start at the item's own end
        lengths = torch.tensor(frames.lengths)
        packed = pack_padded_sequence(frames.pad(upsampled), lengths, True, enforce_sorted=False)
        states, _ = pad_packed_sequence(predictor.blstm(packed)[0], batch_first=True)
    weights = torch.sigmoid(predictor.cif_output2(states.float()))
    scaled = torch.relu(weights * predictor.smooth_factor2 - predictor.noise_threshold2)
    return scaled.squeeze(-1) * frames.mask


def upsample(convolution: torch.nn.ConvTranspose1d, hidden: Tensor) -> Tensor:
    """Each row as `times` rows; a transposed convolution of that stride and width is a product."""
    weight = convolution.weight.permute(2, 1, 0).flatten(0, 1)  # (times * dim, dim)
    bias = None
    if convolution.bias is not None:
        bias = convolution.bias.repeat(convolution.kernel_size[0])
    rows = torch.nn.functional.linear(hidden, weight, bias)
    return rows.view(-1, convolution.out_channels)
