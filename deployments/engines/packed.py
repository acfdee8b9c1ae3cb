"""A batch of items of different lengths, packed end to end into one tensor without padding.

Layers that work row by row (linear layers, norms) see the rows of all items at once. Layers that
mix the rows of an item (attention, FSMN) go through `Rows`, which knows where each item begins and
ends. On a CPU they work on one item after another. On a GPU the items are padded for one kernel,
and the padding is dropped afterwards. Padding therefore never reaches an item's result.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from deployments.engines.compiled import compiled


class Rows:
    """Which rows of an (n_rows, dim) tensor belong to which item.

    `by_item` says how the rows of an item are mixed: one item after another without padding
    (True), or all items padded and in one call (False).
    """

    def __init__(self, lengths: Sequence[int], device: torch.device, *, by_item: bool) -> None:
        self.lengths = list(lengths)
        self.device = device
        self.by_item = by_item
        self.longest = max(lengths)
        self.ends: NDArray[np.int64] = np.cumsum(self.lengths, dtype=np.int64)
        self.starts: NDArray[np.int64] = self.ends - np.array(self.lengths, np.int64)

    def items(self) -> Iterator[slice]:
        """The rows of each item."""
        for start, end in zip(self.starts.tolist(), self.ends.tolist(), strict=True):
            yield slice(start, end)

    def times(self, factor: int) -> Rows:
        """The layout after every row was replaced by `factor` rows."""
        return Rows([n * factor for n in self.lengths], self.device, by_item=self.by_item)

    def of_equal(self, n_rows: int) -> Rows:
        """A layout with the same number of items, `n_rows` rows each."""
        return Rows([n_rows] * len(self.lengths), self.device, by_item=self.by_item)

    def of_shared(self, n_rows: int) -> SharedRows:
        """A layout with the same number of items, which all share the same `n_rows` rows."""
        return SharedRows([n_rows] * len(self.lengths), self.device, by_item=self.by_item)

    @cached_property
    def lengths_on_device(self) -> Tensor:
        """The lengths, (n_items,) int64; the copy does not wait for the device."""
        return to_device(torch.tensor(self.lengths), self.device)

    @cached_property
    def places(self) -> Tensor:
        """Each row's index inside its item, counted from 0, (n_rows,)."""
        return to_device(torch.cat([torch.arange(n) for n in self.lengths]), self.device)

    @cached_property
    def mask(self) -> Tensor:
        """(n_items, longest), true where an item has a row."""
        places = torch.arange(self.longest, device=self.device)
        return places < self.lengths_on_device[:, None]

    @cached_property
    def _flat_places(self) -> Tensor:
        """Each row's index in the flattened padded tensor, (n_rows,)."""
        first = torch.from_numpy(np.repeat(np.arange(len(self.lengths)), self.lengths))
        return to_device(first * self.longest, self.device) + self.places

    def pad(self, rows: Tensor, *, extra: int = 0) -> Tensor:
        """The rows as (n_items, longest + extra, ...), with zeros after the end of each item."""
        if len(self.lengths) == 1:
            padded = rows.unsqueeze(0)
        elif self.by_item:
            padded = pad_sequence([rows[item] for item in self.items()], batch_first=True)
        else:
            flat = rows.new_zeros((len(self.lengths) * self.longest, *rows.shape[1:]))
            flat[self._flat_places] = rows
            padded = flat.view(len(self.lengths), self.longest, *rows.shape[1:])
        return F.pad(padded, [0, 0] * (rows.dim() - 1) + [0, extra]) if extra else padded

    def unpad(self, padded: Tensor) -> Tensor:
        """The reverse of `pad`: the rows without the padding, (n_rows, ...)."""
        if len(self.lengths) == 1:
            return padded[0, : self.longest]
        if self.by_item:
            return torch.cat([padded[i, :n] for i, n in enumerate(self.lengths)])
        return padded[:, : self.longest].flatten(0, 1)[self._flat_places]

    def attend(
        self, queries: Tensor, keys: Tensor, values: Tensor, of: Rows, *, n_heads: int
    ) -> Tensor:
        """Scaled dot-product attention within each item, (n_rows, dim).

        `queries` are (n_rows, dim) in this layout, `keys` and `values` in the layout `of`.
        """
        if self.by_item:
            context = torch.empty(queries.shape, dtype=queries.dtype)
            for ours, theirs in zip(self.items(), of.items(), strict=True):
                q, k, v = (
                    heads(rows.unsqueeze(0), n_heads)
                    for rows in (queries[ours], keys[theirs], values[theirs])
                )
                attended = F.scaled_dot_product_attention(q, k, v)
                context[ours] = attended.transpose(1, 2).flatten(2)[0]
            return context
        q, k, v = (
            heads(layout.pad(rows), n_heads)
            for layout, rows in ((self, queries), (of, keys), (of, values))
        )
        mask = None if of.is_even else of.mask[:, None, None, :]
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.unpad(attended.transpose(1, 2).flatten(2))

    @property
    def is_even(self) -> bool:
        """Whether all items are of one length."""
        return min(self.lengths) == self.longest

    def remember(self, rows: Tensor, block: torch.nn.Conv1d, n_before: int) -> Tensor:
        """The FSMN memory: for each row, the weighted sum of its neighbours plus the row itself."""
        if self.by_item and rows.dtype is torch.float32:
            memory = torch.empty(rows.shape)
            taps = block.weight[:, 0].t().contiguous()
            whole = rows.contiguous().numpy()
            _remember(whole, taps.numpy(), n_before, self.starts, self.ends, memory.numpy())
            return memory
        n_after = block.kernel_size[0] - 1 - n_before
        padded = self.pad(rows)
        mixed = block(F.pad(padded.transpose(1, 2), (n_before, n_after))).transpose(1, 2)
        return self.unpad(mixed + padded)


class SharedRows(Rows):
    """The layout of rows that all items share; they are stored once. For keys and values only."""

    def items(self) -> Iterator[slice]:
        """The same rows for each item."""
        yield from [slice(self.longest)] * len(self.lengths)

    def pad(self, rows: Tensor, *, extra: int = 0) -> Tensor:
        """The rows as (n_items, longest + extra, ...), a view that repeats them for each item."""
        padded = F.pad(rows, [0, 0] * (rows.dim() - 1) + [0, extra]) if extra else rows
        return padded.expand(len(self.lengths), *padded.shape)


def heads(rows: Tensor, n_heads: int) -> Tensor:
    """Splits (batch, n_rows, dim) into heads, (batch, n_heads, n_rows, dim / n_heads)."""
    return rows.view(*rows.shape[:2], n_heads, -1).transpose(1, 2)


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copies the tensor to the device; to a GPU through pinned memory, without waiting."""
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def to_host(*tensors: Tensor) -> list[Tensor]:
    """Copies the tensors to the CPU; waits for a GPU once, whatever their number."""
    if all(tensor.device.type != "cuda" for tensor in tensors):
        return [tensor.cpu() for tensor in tensors]
    copies = [torch.empty(t.shape, dtype=t.dtype, pin_memory=True) for t in tensors]
    for copy, tensor in zip(copies, tensors, strict=True):
        copy.copy_(tensor, non_blocking=True)
    torch.cuda.current_stream().synchronize()
    return copies


@compiled
def _remember(
    rows: NDArray[np.float32],
    taps: NDArray[np.float32],
    n_before: int,
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    out: NDArray[np.float32],
) -> None:
    """`out[t] = rows[t] + sum over k of taps[k] * rows[t + k - n_before]` inside each item."""
    for item in range(starts.shape[0]):
        start, end = starts[item], ends[item]
        for row in range(start, end):
            for channel in range(rows.shape[1]):
                out[row, channel] = 0.0
            for tap in range(taps.shape[0]):
                neighbour = row + tap - n_before
                if start <= neighbour < end:
                    for channel in range(rows.shape[1]):
                        out[row, channel] += taps[tap, channel] * rows[neighbour, channel]
            for channel in range(rows.shape[1]):
                out[row, channel] += rows[row, channel]
