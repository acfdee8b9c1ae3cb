"""FSMN-VAD's network over stretches of several recordings at once, without a state between calls.

The weights are those of FunASR's `FSMN` module; its memory blocks look back a fixed number of
rows. So a stretch that brings as many rows of left context has the scores of the whole recording
(measured on the published weights: bit for bit from 76 rows on), and stretches of any lengths and
any recordings stand end to end in one matrix, with no padding between them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


class FsmnNetwork:
    """Scores rows of stacked features; a stretch must bring `context` rows from before it."""

    def __init__(self, encoder: Any, cmvn: Tensor | None, device: torch.device) -> None:
        """Raises ValueError where the network looks ahead, or skips rows."""
        blocks = list(encoder.fsmn)
        if any(memory.rorder or memory.lstride != 1 for memory in map(memory_of, blocks)):
            raise ValueError("its memory blocks must look back, row by row")
        first = encoder.in_linear1.linear
        weight, bias = first.weight.double(), first.bias.double()
        if cmvn is not None:  # (x + shift) * scale is linear: into the first layer with it
            shift, scale = cmvn.double()
            weight, bias = weight * scale, bias + weight @ (shift * scale)
        self._into = [
            prepared(weight.float(), bias.float(), device),
            layer(encoder.in_linear2, device),
        ]
        self._blocks = [
            (
                block.linear.linear.weight.t().contiguous().to(device),
                taps_of(memory_of(block)).to(device),
                layer(block.affine, device),
            )
            for block in blocks
        ]
        self._out = [layer(encoder.out_linear1, device), layer(encoder.out_linear2, device)]
        self._softmax = bool(encoder.use_softmax)
        self.context = sum(memory_of(block).lorder - 1 for block in blocks)

    def __call__(self, rows: Tensor, void: Sequence[slice]) -> Tensor:
        """(n_rows, dim) -> (n_rows - context, n_classes); row i of the answer is row i + context.

        `void` are context rows from before a recording's beginning; the network remembers zeros
        there, whatever they hold.
        """
        hidden = rows
        for weight, bias in self._into:
            hidden = (hidden @ weight).add_(bias)
        hidden.relu_()
        eaten = 0
        for projection, taps, (weight, bias) in self._blocks:
            memory = hidden @ projection
            for nothing in void:
                memory[max(0, nothing.start - eaten) : max(0, nothing.stop - eaten)] = 0
            eaten += taps.shape[-1] - 1
            hidden = (looked_back(memory, taps) @ weight).add_(bias).relu_()
        for weight, bias in self._out:
            hidden = (hidden @ weight).add_(bias)
        return hidden.softmax(-1) if self._softmax else hidden


def looked_back(memory: Tensor, taps: Tensor) -> Tensor:
    """Each row with the rows before it, weighted by channel; fewer by the rows looked back to."""
    n_rows, n_channels = memory.shape
    # Read as an image with the channels last, a row high: eight times the speed (measured). The
    # strides are written out because PyTorch takes a view's for the other layout, and copies.
    shape, size = (1, n_channels, 1, n_rows), n_rows * n_channels
    image = memory.as_strided(shape, (size, 1, size, n_channels))
    return F.conv2d(image, taps, groups=n_channels)[0, :, 0].t()


def taps_of(memory: Any) -> Tensor:
    """(channels, 1, 1, order), time along the last axis; the last tap also adds the row itself."""
    taps: Tensor = memory.conv_left.weight.transpose(2, 3).clone()
    taps[..., -1] += 1
    return taps.contiguous()


def memory_of(block: Any) -> Any:
    """The block's `FSMNBlock`."""
    return block.fsmn_block


def layer(affine: Any, device: torch.device) -> tuple[Tensor, Tensor]:
    """A FunASR `AffineTransform`, see `prepared`."""
    return prepared(affine.linear.weight, affine.linear.bias, device)


def prepared(weight: Tensor, bias: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    """The transposed weight, (in, out), and the bias."""
    return weight.t().contiguous().to(device), bias.to(device)
