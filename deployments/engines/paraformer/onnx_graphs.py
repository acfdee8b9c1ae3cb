"""Paraformer as two graphs for ONNX export: one before integrate-and-fire, one after it.

The layers are those of `sanm.py`. They work on padded items with masks instead of packed rows, so
that neither a neighbour nor padding reaches an item. Between the graphs the compiled loop of
`cif.py` decides where tokens fire, as in the torch engine, because a loop inside a graph is slow.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from deployments.engines.packed import heads
from deployments.engines.paraformer.sanm import decode, encode, positions

HIDDEN_BY = -1e9  # added to a padding frame's attention score: its weight becomes exactly 0


class PaddedRows:
    """Padded items, (n_items, longest, dim), with the methods of `Rows` that the layers call."""

    def __init__(self, lengths: Tensor, longest: int) -> None:
        self.lengths = lengths
        self.mask = torch.arange(longest, device=lengths.device)[None, :] < lengths[:, None]
        self._kept = self.mask[:, :, None].float()  # (n_items, longest, 1)
        self._hidden = (1.0 - self.mask.float())[:, None, None, :] * HIDDEN_BY

    def pad(self, rows: Tensor) -> Tensor:
        """The items with zeros after their ends."""
        return rows * self._kept

    def remember(self, rows: Tensor, block: nn.Conv1d, n_before: int) -> Tensor:
        """As `Rows.remember`."""
        n_after = block.kernel_size[0] - 1 - n_before
        padded = self.pad(rows)
        channels = torch.nn.functional.pad(padded.transpose(1, 2), (n_before, n_after))
        mixed: Tensor = block(channels)
        return mixed.transpose(1, 2) + padded

    def attend(
        self, queries: Tensor, keys: Tensor, values: Tensor, of: PaddedRows, *, n_heads: int
    ) -> Tensor:
        """As `Rows.attend`, in plain operations, which ONNX Runtime optimises best."""
        q, k, v = (heads(rows, n_heads) for rows in (queries, keys, values))
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(2, 3) + of._hidden
        context: Tensor = (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)
        return context


class EncoderGraph(nn.Module):
    """From features to hidden frames, token weights and weights for the word times."""

    positions: Tensor

    def __init__(self, model: Any, *, max_frames: int, dim: int) -> None:
        super().__init__()
        self.encoder, self.predictor = model.encoder, model.predictor
        table = positions(model.encoder, max_frames, dim)
        self.register_buffer("positions", table, persistent=False)
        self.scale = model.encoder.output_size() ** 0.5

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """From `features` (n_items, longest, dim) float32 and `lengths` (n_items,) int64.

        Returns `hidden` (n_items, longest, dim), `alphas` (n_items, longest) and `upsampled`
        (n_items, 3 * longest), all float32. The weights are zero after an item's end.
        """
        frames = PaddedRows(lengths, features.shape[1])
        placed = features * self.scale + self.positions[: features.shape[1]]
        hidden = encode(self.encoder, placed, frames, torch.float32)  # type: ignore[arg-type]
        hidden = frames.pad(hidden)
        return hidden, self._frame_weights(hidden, frames), self._time_weights(hidden, frames)

    def _frame_weights(self, hidden: Tensor, frames: PaddedRows) -> Tensor:
        predictor = self.predictor
        context = torch.relu(predictor.cif_conv1d(predictor.pad(hidden.transpose(1, 2))))
        weights = torch.sigmoid(predictor.cif_output(context.transpose(1, 2)))
        scaled = torch.relu(weights * predictor.smooth_factor - predictor.noise_threshold)
        return scaled.squeeze(-1) * frames.mask

    def _time_weights(self, hidden: Tensor, frames: PaddedRows) -> Tensor:
        predictor = self.predictor
        times = predictor.upsample_times
        convolution = predictor.upsample_cnn  # stride equals width: a matrix product
        product = convolution.weight.permute(2, 1, 0).flatten(0, 1)
        bias = convolution.bias.repeat(times)
        rows = torch.nn.functional.linear(hidden, product, bias)
        rows = rows.reshape(hidden.shape[0], -1, convolution.out_channels)
        # Packed, because the LSTM's backward direction must start at the item's own end.
        packed = pack_padded_sequence(rows, frames.lengths * times, True)
        states, _ = pad_packed_sequence(predictor.blstm(packed)[0], batch_first=True)
        weights = torch.sigmoid(predictor.cif_output2(states)).squeeze(-1)
        scaled = torch.relu(weights * predictor.smooth_factor2 - predictor.noise_threshold2)
        return scaled * frames.mask.repeat_interleave(times, 1)


class DecoderGraph(nn.Module):
    """From token vectors and hidden frames to the likeliest token at each position."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.decoder = model.decoder

    def forward(
        self, acoustic: Tensor, n_tokens: Tensor, hidden: Tensor, lengths: Tensor
    ) -> Tensor:
        """From `acoustic` (n_items, most_tokens, dim) and `hidden` (n_items, longest, dim).

        Returns token ids, (n_items, most_tokens).
        """
        tokens = PaddedRows(n_tokens, acoustic.shape[1])
        frames = PaddedRows(lengths, hidden.shape[1])
        states = decode(self.decoder, acoustic, tokens, hidden, frames)  # type: ignore[arg-type]
        logits: Tensor = self.decoder.output_layer(states)
        return logits.argmax(-1)
