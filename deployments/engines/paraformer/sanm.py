"""The SAN-M encoder and decoder of FunASR's Paraformer, on packed rows.

The modules and weights are FunASR's. The operations and their order are those of FunASR's `forward`
methods (`funasr/models/sanm/encoder.py`, `paraformer/decoder.py`), without padding and masks.
Attention is `scaled_dot_product_attention`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from deployments.core.errors import ModelUnavailable
from deployments.engines.packed import Rows, heads


def check_supported(model: Any, name: str) -> None:
    """Raises ModelUnavailable if the encoder or decoder has parts that are not computed here."""
    encoder, decoder = model.encoder, model.decoder
    known = (
        type(encoder).__name__ == "SANMEncoder"
        and type(encoder.embed).__name__ == "SinusoidalPositionEncoder"
        and type(decoder).__name__ == "ParaformerSANMDecoder"
        and encoder.normalize_before
        and decoder.normalize_before
        and _is_known_bias(getattr(model, "seaco_decoder", None))
        and not encoder.interctc_layer_idx
        and not any(getattr(layer, "concat_after", False) for layer in model.modules())
    )
    if not known:
        raise ModelUnavailable(name, "its encoder or decoder is of a kind that is not supported.")


def _is_known_bias(decoder: Any | None) -> bool:
    """Whether `decode` can compute SeACo's hotword decoder. None is a model without one."""
    return decoder is None or (
        type(decoder).__name__ == "ParaformerSANMDecoder"
        and decoder.normalize_before
        and decoder.output_layer is None
    )


def positions(encoder: Any, n_frames: int, dim: int) -> Tensor:
    """The positional encoding to add to the features, (n_frames, dim) float32."""
    encoded: Tensor = encoder.embed.encode(torch.arange(1, n_frames + 1)[None], dim)
    return encoded[0]


def encode(encoder: Any, features: Tensor, rows: Rows, dtype: torch.dtype) -> Tensor:
    """The hidden frames, (n_rows, dim) of `dtype`.

    `features` are (n_rows, input_dim) float32, with the positional encoding already added.
    """
    x = features.to(dtype)
    for layer in (*encoder.encoders0, *encoder.encoders):
        x = _encoder_layer(layer, x, rows)
    normed: Tensor = encoder.after_norm(x)
    return normed


def _encoder_layer(layer: Any, x: Tensor, rows: Rows) -> Tensor:
    attention = layer.self_attn
    queries, keys, values = attention.linear_q_k_v(layer.norm1(x)).chunk(3, -1)
    memory = rows.remember(values, attention.fsmn_block, attention.pad_fn.padding[0])
    context = rows.attend(queries, keys, values, rows, n_heads=attention.h)
    y: Tensor = attention.linear_out(context).add_(memory)
    if layer.in_size == layer.size:
        y = y.add_(x)
    forward = layer.feed_forward
    return y.add_(forward.w_2(torch.relu_(forward.w_1(layer.norm2(y)))))


def decode(decoder: Any, acoustic: Tensor, tokens: Rows, hidden: Tensor, frames: Rows) -> Tensor:
    """The output of the decoder's last layer, (n_rows of tokens, dim).

    `acoustic` is the decoder's input in the layout `tokens`, `hidden` are the encoder's frames.
    """
    x = acoustic
    for layer in (*decoder.decoders, *(decoder.decoders2 or ()), *decoder.decoders3):
        x = _decoder_layer(layer, x, tokens, hidden, frames)
    normed: Tensor = decoder.after_norm(x)
    return normed


def attention_of(
    decoder: Any, number: int, acoustic: Tensor, tokens: Rows, hidden: Tensor, frames: Rows
) -> Tensor:
    """A decoder layer's attention weights, (n_items, n_heads, longest, n_frames).

    All items must have the same number of frames.
    """
    *before, layer = decoder.decoders[: number + 1]
    x = acoustic
    for each in before:
        x = _decoder_layer(each, x, tokens, hidden, frames)
    attention = layer.src_attn
    queries = attention.linear_q(layer.norm3(_remembered(layer, x, tokens)))
    keys, _ = attention.linear_k_v(hidden).chunk(2, -1)
    q = heads(tokens.pad(queries), attention.h) * attention.d_k**-0.5
    return torch.softmax(q @ heads(frames.pad(keys), attention.h).transpose(-2, -1), -1)


def _remembered(layer: Any, x: Tensor, tokens: Rows) -> Tensor:
    """The first half of a decoder layer: its feed-forward part and its FSMN memory."""
    forward = layer.feed_forward
    y: Tensor = forward.w_2(forward.norm(torch.relu_(forward.w_1(layer.norm1(x)))))
    if layer.self_attn is not None:
        memory = layer.self_attn
        normed = layer.norm2(y)
        y = tokens.remember(normed, memory.fsmn_block, memory.pad_fn.padding[0]).add_(x)
    return y


def _decoder_layer(layer: Any, x: Tensor, tokens: Rows, hidden: Tensor, frames: Rows) -> Tensor:
    y = _remembered(layer, x, tokens)
    if layer.src_attn is not None:
        attention = layer.src_attn
        queries = attention.linear_q(layer.norm3(y))
        keys, values = attention.linear_k_v(hidden).chunk(2, -1)
        context = tokens.attend(queries, keys, values, frames, n_heads=attention.h)
        y = y.add_(attention.linear_out(context))
    return y
