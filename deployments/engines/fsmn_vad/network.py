"""FSMN-VAD's network, over parts of several recordings at once, without state between calls.

The weights are those of FunASR's `FSMN` module. Its memory blocks look back a fixed number of rows.
So a part of a recording that comes with this many rows of left context gets the same scores as in
the whole recording. With the published weights the context is 76 rows, and the scores are equal bit
for bit (measured). Parts of any lengths, of any recordings, stand end to end in one matrix, with no
padding between them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


class FsmnNetwork:
    """Scores rows of stacked features. Each stretch needs `context` more rows before it."""

    def __init__(self, encoder: Any, cmvn: Tensor | None, device: torch.device) -> None:
        """Raises ValueError if the network looks ahead or skips rows."""
        blocks = list(encoder.fsmn)
        if any(memory.rorder or memory.lstride != 1 for memory in map(memory_of, blocks)):
            raise ValueError("its memory blocks must look back, row by row")
        first = encoder.in_linear1.linear
        weight, bias = first.weight.double(), first.bias.double()
        if cmvn is not None:  # (x + shift) * scale is linear, so the first layer includes it
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
        """(n_rows, dim) -> (n_rows - context, n_classes). Row i of the result scores
        row i + context.

        `void` are context rows that lie before a recording's beginning. Whatever they hold, the
        memory of the network is zero there.
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
    """For each row, the weighted sum of itself and the rows before it, channel by channel.

    The first rows, which lack rows before them, are dropped.
    """
    n_rows, n_channels = memory.shape
    # The rows are passed as an image one pixel high with the channels last, which is eight times as
    # fast (measured). The strides are written out. From the strides of a view, PyTorch would
    # conclude that the channels come first, and would copy the rows.
    shape, size = (1, n_channels, 1, n_rows), n_rows * n_channels
    image = memory.as_strided(shape, (size, 1, size, n_channels))
    return F.conv2d(image, taps, groups=n_channels)[0, :, 0].t()


def taps_of(memory: Any) -> Tensor:
    """The filter, (channels, 1, 1, order), time last. The last tap also adds the row itself."""
    taps: Tensor = memory.conv_left.weight.transpose(2, 3).clone()
    taps[..., -1] += 1
    return taps.contiguous()


def memory_of(block: Any) -> Any:
    """The block's `FSMNBlock`."""
    return block.fsmn_block


def layer(affine: Any, device: torch.device) -> tuple[Tensor, Tensor]:
    """The weights of a FunASR `AffineTransform`, as `prepared` returns them."""
    return prepared(affine.linear.weight, affine.linear.bias, device)


def prepared(weight: Tensor, bias: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    """The transposed weight, (in, out), and the bias, on the device."""
    return weight.t().contiguous().to(device), bias.to(device)
