"""Linear layers with 8-bit weights for the CPU, quantised so that rows stay independent.

Weights have one scale for each output. Activations are quantised at run time, with one scale for
each row: its own largest value. Sums of integers are exact, so a row's result does not depend on
the rows beside it. The LSTM is torch's own. It has one scale for all rows it is given, so it reads
one item at a time (`predictor.run_lstm`).
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from deployments.engines.compiled import compiled
from deployments.engines.paraformer.linears import PrepackedLinear, replace_linears
from deployments.engines.pieces import Adapt, as_it_is

LIMIT = 127
# Processors without VNNI add pairs of 8-bit products in 16 bits, which can saturate. With 7-bit
# weights they cannot.
LIMIT_WITHOUT_VNNI = 63


class Int8Linear(nn.Module):
    """A linear layer with int8 weights; takes and gives float32, (..., in) -> (..., out)."""

    def __init__(self, linear: nn.Linear, limit: int | None = None) -> None:
        super().__init__()
        weight = linear.weight.detach()
        limit = limit or weight_limit()
        scales = weight.abs().amax(1).clamp_(min=1e-12) / limit
        self._weight = (weight / scales[:, None]).round_().to(torch.int8).t().contiguous()
        self._scales = scales.numpy()
        bias = torch.zeros(len(weight)) if linear.bias is None else linear.bias.detach()
        self._bias = bias.numpy()

    def forward(self, x: Tensor) -> Tensor:
        rows = x.reshape(-1, x.shape[-1]).contiguous().numpy()
        quantised = np.empty(rows.shape, np.int8)
        row_scales = np.empty(len(rows), np.float32)
        _quantise(rows, rows.view(np.int32), row_scales, quantised)
        sums = torch._int_mm(torch.from_numpy(quantised), self._weight)
        out = torch.empty(sums.shape)
        _rescale(sums.numpy(), row_scales, self._scales, self._bias, out.numpy())
        return out.view(*x.shape[:-1], -1)


@compiled
def _quantise(
    rows: NDArray[np.float32],
    bits: NDArray[np.int32],
    scales: NDArray[np.float32],
    out: NDArray[np.int8],
) -> None:
    """Scales each row by its largest magnitude to -127..127. `bits` is `rows` read as integers."""
    for row in range(rows.shape[0]):
        largest = np.int32(0)
        # The bits of two magnitudes compare like the floats, and integer loops are vectorised.
        for i in range(rows.shape[1]):
            largest = max(largest, bits[row, i] & np.int32(0x7FFFFFFF))
        scale = np.int32(largest).view(np.float32) / np.float32(LIMIT)
        scales[row] = scale
        inverse = np.float32(0.0) if scale == 0 else np.float32(1.0) / scale
        for i in range(rows.shape[1]):
            out[row, i] = np.int8(np.rint(rows[row, i] * inverse))


@compiled
def _rescale(
    sums: NDArray[np.int32],
    row_scales: NDArray[np.float32],
    scales: NDArray[np.float32],
    bias: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:
    for row in range(sums.shape[0]):
        scale = row_scales[row]
        for i in range(sums.shape[1]):
            out[row, i] = np.float32(sums[row, i]) * (scale * scales[i]) + bias[i]


def weight_limit() -> int:
    """The largest weight whose products this processor sums without saturating."""
    extreme = torch.full((32, 64), LIMIT, dtype=torch.int8)
    exact = torch._int_mm(extreme, extreme.t().contiguous()).eq(64 * LIMIT * LIMIT).all()
    return LIMIT if bool(exact) else LIMIT_WITHOUT_VNNI


def for_cpu(dtype: str) -> Adapt:
    """What turns a model's layers, as they are loaded, into those that are fast on a CPU."""

    def adapt(model: Any) -> None:
        if dtype == "int8":
            quantise(model)
        replace_linears(model, PrepackedLinear)  # those that `quantise` leaves in float32

    return adapt if dtype in ("int8", "fp32") else as_it_is


def quantise(model: Any) -> None:
    """Turns the encoder, the decoder and the LSTM of the word times into int8.

    The layers that decide when a token fires and which hotword wins stay in float32. They are a
    few percent of the work. Layers on the meta device have no weights yet, and are left for a
    later call.
    """
    replace_linears(model.encoder, Int8Linear)
    replace_linears(model.decoder, Int8Linear)
    lstm = model.predictor.blstm
    if type(lstm) is nn.LSTM and not lstm.weight_ih_l0.is_meta:
        model.predictor.blstm = int8_lstm(lstm)


def int8_lstm(lstm: nn.LSTM) -> nn.Module:
    """The LSTM with int8 weights, by torch's dynamic quantisation: one scale for each call."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated in favour of a package that has no LSTM
        quantised = torch.ao.quantization.quantize_dynamic(  # type: ignore[no-untyped-call]
            nn.ModuleDict({"lstm": lstm}), {nn.LSTM}, dtype=torch.qint8
        )
    module: nn.Module = quantised["lstm"]
    return module
