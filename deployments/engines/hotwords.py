"""SeACo-Paraformer's hotwords (https://arxiv.org/abs/2308.03266), as FunASR 1.4.16 applies them.

Equal to `SeacoParaformer._seaco_decode_with_ASF` and `generate_hotwords_list`, except that a
result does not depend on its batch: FunASR filters the hotwords of all by the first item's
attention. Nothing here reads a path or an address out of a hotword, as FunASR does; and a
hotword that has no token at all is left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from deployments.engines.packed import Rows, to_device
from deployments.engines.predictor import run_lstm
from deployments.engines.sanm import attention_of, decode

MAX_ATTENDED = 50  # FunASR's nfilter: with more hotwords only the likeliest are attended to
ASF_LAYER = 5  # of its hotword decoder, counted from 0: the one whose attention says which
CHINESE_OR_DIGITS = re.compile(r"^[\u4E00-\u9FA50-9]+$")

SegDict = Mapping[str, Sequence[str]]


def read_seg_dict(path: Path) -> SegDict:
    """How words are spelt in tokens: lines of a word and its tokens."""
    entries = (line.split() for line in path.read_text("utf-8").splitlines())
    return {entry[0]: tuple(entry[1:]) for entry in entries if entry}


def spell(hotword: str, seg_dict: SegDict | None, token_ids: Mapping[str, int]) -> list[int]:
    """The token ids of a hotword of one or several words; what cannot be spelt is `<unk>`."""
    tokens: list[str] = []
    for word in hotword.split():
        lowered = word.lower()
        if seg_dict is None:
            tokens.append(word)
        elif lowered in seg_dict:
            tokens.extend(seg_dict[lowered])
        elif CHINESE_OR_DIGITS.match(lowered):
            for char in lowered:
                tokens.extend(seg_dict.get(char, ("<unk>",)))
        else:
            tokens.append("<unk>")
    unknown = token_ids["<unk>"]
    return [token_ids.get(token, unknown) for token in tokens]


def spell_all(
    hotwords: Sequence[str], seg_dict: SegDict | None, token_ids: Mapping[str, int]
) -> dict[str, list[int]]:
    """The hotwords that can be listened for, and their token ids.

    Left out are those of `<unk>` alone: FunASR then listens for whatever has no token.
    """
    spelt = {word: spell(word, seg_dict, token_ids) for word in hotwords if word.strip()}
    unknown = token_ids["<unk>"]
    return {word: ids for word, ids in spelt.items() if set(ids) != {unknown}}


def represent(model: Any, spelt: Sequence[Sequence[int]], device: torch.device) -> Tensor:
    """One vector for each hotword and one, the last, for none of them, (n + 1, dim)."""
    entries = [torch.tensor(ids) for ids in (*spelt, [model.sos])]
    lengths = [len(entry) for entry in entries]
    padded = to_device(pad_sequence(entries, batch_first=True), device)
    states = run_lstm(model.bias_encoder, model.decoder.embed(padded), lengths)
    if model.lstm_proj is not None:
        states = model.lstm_proj(states)
    ends = torch.tensor(lengths) - 1 + states.shape[1] * torch.arange(len(lengths))
    return states.flatten(0, 1).index_select(0, to_device(ends, device))


def bias(
    model: Any, token_ids: Tensor, *, hotwords: Tensor, acoustic: Tensor, hidden: Tensor, rows: Rows
) -> Tensor:
    """The token ids after the hotwords have had their say, (n_rows,).

    `token_ids` are the decoder's own, `acoustic` its input and `hidden` its last layer, both
    (n_rows, dim) in the layout `rows`; `hotwords` comes from `represent`.
    """
    context: Tensor = hotwords
    entries: Rows = rows.of_shared(len(hotwords))
    if len(hotwords) > MAX_ATTENDED:
        of_items = keep_likeliest(model, hotwords, hidden, rows)
        context, entries = of_items.flatten(0, 1), rows.of_equal(of_items.shape[1])
    decoder = model.seaco_decoder
    heard = decode(decoder, acoustic, rows, context, entries)
    heard = heard + decode(decoder, hidden, rows, context, entries)
    biased = model.hotword_output_layer(heard).argmax(-1)
    return torch.where(biased == model.NO_BIAS, token_ids, biased)


def keep_likeliest(model: Any, hotwords: Tensor, hidden: Tensor, rows: Rows) -> Tensor:
    """The hotwords that each item attends to most, and the last entry, (n_items, 51 or less, dim).

    `hotwords` are all of them, (n_entries, dim).
    """
    n_entries = len(hotwords)
    attention = attention_of(
        model.seaco_decoder, ASF_LAYER, hidden, rows, hotwords, rows.of_shared(n_entries)
    )
    scores = (attention.sum(1) * rows.mask[:, :, None]).sum(1)  # (n_items, n_entries)
    kept = scores.topk(min(MAX_ATTENDED, n_entries - 1)).indices
    last = torch.full_like(kept[:, :1], n_entries - 1)
    return hotwords[torch.cat([kept, last], 1)]
