"""Texts of any lengths as rows, a row for each word, with the two operations that mix rows.

Attention sees each text by itself. The FSMN convolution sees zeros between two texts, as it does at
the end of a text. A CPU computes one text after another. A GPU computes all texts in one call,
because calls cost it more than rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from deployments.engines.compiled import compiled
from deployments.engines.packed import to_device

Reach = tuple[int, int]  # how many words before and after a word the convolution reads


class TextRows(Protocol):
    """The rows of a batch of texts, on the device of the network."""

    lengths: list[int]
    ids: Tensor  # (n_rows,), the words' ids
    positions: Tensor  # (n_rows,), each word's position in its text, from 0

    def attend(self, mixed: Tensor) -> Tensor:
        """Attention inside each text, (n_rows, heads * d_k).

        `mixed` are queries, keys and values, (n_rows, 3, heads, d_k).
        """

    def add_memory(self, mixed: Tensor, kernel: Tensor, total: Tensor) -> None:
        """Adds the FSMN memory to `total`: the convolution of the values, and the values."""


class OneByOne:
    """`TextRows` for a CPU: one text after another."""

    def __init__(self, texts: Sequence[Sequence[int]], reach: Reach) -> None:
        self.lengths = [len(text) for text in texts]
        self.ids, self.positions = ids_and_positions(texts)
        self._n_before = reach[0]
        self._ends = np.cumsum(self.lengths, dtype=np.int64)
        self._starts = self._ends - np.array(self.lengths, np.int64)

    def attend(self, mixed: Tensor) -> Tensor:
        query, key, value = mixed.unbind(1)
        query = query * query.shape[-1] ** -0.5
        seen = torch.empty_like(query)
        for start, end in zip(self._starts.tolist(), self._ends.tolist(), strict=True):
            q, k, v, out = (rows[start:end].transpose(0, 1) for rows in (query, key, value, seen))
            # Attention in single operations. The softmax's division comes last, where there are
            # fewer numbers. On a CPU this takes less time than scaled_dot_product_attention: a
            # third less for 40 words, a seventh less for 180, the same for 230.
            scores = torch.bmm(q, k.transpose(1, 2))
            scores -= scores.amax(-1, keepdim=True)
            scores.exp_()
            torch.div(torch.bmm(scores, v), scores.sum(-1, keepdim=True), out=out)
        return seen.flatten(1)

    def add_memory(self, mixed: Tensor, kernel: Tensor, total: Tensor) -> None:
        taps = kernel[:, 0].t().contiguous()
        whole = mixed.flatten(2).numpy()
        _add_memory(whole, taps.numpy(), self._n_before, self._starts, self._ends, total.numpy())


class Together:
    """`TextRows` for a GPU: all texts in one call, after one copy to the device."""

    def __init__(
        self, texts: Sequence[Sequence[int]], reach: Reach, device: torch.device | str
    ) -> None:
        self.lengths = lengths = [len(text) for text in texts]
        n_texts, longest, gap = len(lengths), max(lengths), max(reach)
        ids, positions = ids_and_positions(texts)
        text = torch.repeat_interleave(torch.arange(n_texts), torch.tensor(lengths))
        unspaced = torch.arange(len(ids)) + text * gap
        rows = torch.stack([ids, positions, unspaced, text * longest + positions])
        self.ids, self.positions, self._unspaced, self._padded = to_device(
            rows, torch.device(device)
        )
        self._n_before = reach[0]
        self._n_spaced = len(ids) + (n_texts - 1) * gap + sum(reach)
        mask = torch.zeros(n_texts * longest, dtype=torch.bool, device=device)
        mask.index_fill_(0, self._padded, True)
        self._mask = mask.view(n_texts, 1, 1, longest)

    def attend(self, mixed: Tensor) -> Tensor:
        n_texts, longest = len(self.lengths), max(self.lengths)
        batch = mixed.new_zeros(n_texts * longest, *mixed.shape[1:])
        batch.index_copy_(0, self._padded, mixed)
        # (3, n_texts, heads, longest, d_k)
        query, key, value = batch.view(n_texts, longest, *mixed.shape[1:]).permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(query, key, value, attn_mask=self._mask)
        return seen.transpose(1, 2).flatten(0, 1).index_select(0, self._padded).flatten(1)

    def add_memory(self, mixed: Tensor, kernel: Tensor, total: Tensor) -> None:
        value = mixed[:, 2].flatten(1)
        width = value.shape[1]
        apart = value.new_zeros(self._n_spaced, width)
        apart.index_copy_(0, self._unspaced + self._n_before, value)
        # As an image one pixel high, with channels last, the rows are used as they are. conv1d
        # copies them twice (measured: 680 against 120 us for 900 rows of 256).
        line = apart.view(1, 1, self._n_spaced, width).permute(0, 3, 1, 2)
        filtered = F.conv2d(line, kernel[:, :, None], groups=width)[0, :, 0].t()
        total += filtered.index_select(0, self._unspaced)
        total += value


def ids_and_positions(texts: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """The word ids of all texts end to end, and each word's position in its text; (n_rows,)."""
    ids = torch.tensor([word for text in texts for word in text])
    return ids, torch.cat([torch.arange(len(text)) for text in texts])


@compiled
def _add_memory(
    mixed: NDArray[np.float32],
    taps: NDArray[np.float32],
    n_before: int,
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    total: NDArray[np.float32],
) -> None:
    """`total[t] += v[t] + sum over k of taps[k] * v[t + k - n_before]` inside each text.

    `v` are the values, `mixed[:, 2]`. They are read in place, because copying them out costs as
    much as the sums.
    """
    for item in range(starts.shape[0]):
        start, end = starts[item], ends[item]
        for row in range(start, end):
            for channel in range(total.shape[1]):
                total[row, channel] += mixed[row, 2, channel]
            for tap in range(taps.shape[0]):
                neighbour = row + tap - n_before
                if start <= neighbour < end:
                    for channel in range(total.shape[1]):
                        total[row, channel] += taps[tap, channel] * mixed[neighbour, 2, channel]
