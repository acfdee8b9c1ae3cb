"""SeACo-Paraformer's hotwords (https://arxiv.org/abs/2308.03266), as FunASR 1.4.16 applies them.

Equal to `SeacoParaformer._seaco_decode_with_ASF` and `generate_hotwords_list`, with three
differences:

- A result does not depend on its batch. FunASR filters the hotwords of all items by the first
  item's attention.
- A hotword is always plain text. FunASR takes one that is the path of a `.txt` file or a URL for a
  list, which it reads.
- A hotword without any known token is left out.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from deployments.engines.packed import Rows, to_device
from deployments.engines.paraformer.predictor import run_lstm
from deployments.engines.paraformer.sanm import attention_of, decode

MAX_ATTENDED = 50  # FunASR's nfilter: of more hotwords only the likeliest are used
ASF_LAYER = 5  # layer of the hotword decoder, from 0, whose attention ranks the hotwords
CHINESE_OR_DIGITS = re.compile(r"^[\u4E00-\u9FA50-9]+$")

SegDict = Mapping[str, Sequence[str]]


class Spellings(SegDict):
    """How words are spelt in tokens, held as the text of the file and an index of its lines.

    The published file has some hundred thousand words. A `dict` of tuples takes twenty times the
    file's size in every replica, and a request looks up a few words only.
    """

    def __init__(self, lines: Iterable[str]) -> None:
        """Each line is a word and its tokens. Of two lines with one word, the last one counts."""
        text = bytearray()
        starts, hashes = array("Q"), array("L")
        for entry in filter(None, map(str.split, lines)):
            starts.append(len(text))
            hashes.append(_hash(entry[0]))
            text += " ".join(entry).encode() + b"\n"
        order = np.argsort(np.array(hashes, dtype=np.uint32), kind="stable")
        self._text = bytes(text)
        self._hashes = np.array(hashes, dtype=np.uint32)[order]  # sorted
        self._starts = np.array(starts, dtype=np.uint32)[order]  # of the line with that hash

    def __getitem__(self, word: str) -> tuple[str, ...]:
        wanted = np.uint32(_hash(word))  # an int would make NumPy copy all hashes
        first, end = (np.searchsorted(self._hashes, wanted, side) for side in ("left", "right"))
        for start in reversed(self._starts[first:end].tolist()):
            found, *tokens = self._line(start)
            if found == word:
                return tuple(tokens)
        raise KeyError(word)

    def __iter__(self) -> Iterator[str]:
        return iter({self._line(start)[0]: None for start in np.sort(self._starts).tolist()})

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _line(self, start: int) -> list[str]:
        return self._text[start : self._text.index(b"\n", start)].decode().split(" ")


def _hash(word: str) -> int:
    return crc32(word.encode(errors="surrogatepass"))  # a client may send half a character


def read_seg_dict(path: Path) -> SegDict:
    """How words are spelt in tokens, from a file with lines of a word and its tokens."""
    with path.open(encoding="utf-8") as lines:
        return Spellings(lines)


def spell(hotword: str, seg_dict: SegDict | None, token_ids: Mapping[str, int]) -> list[int]:
    """The token ids of a hotword of one or more words. A part that cannot be spelt is `<unk>`."""
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
    """The hotwords that the model can recognise, and their token ids.

    A hotword of `<unk>` alone is left out. FunASR keeps it, and then favours any word that has no
    token.
    """
    spelt = {word: spell(word, seg_dict, token_ids) for word in hotwords if word.strip()}
    unknown = token_ids["<unk>"]
    return {word: ids for word, ids in spelt.items() if set(ids) != {unknown}}


def represent(model: Any, spelt: Sequence[Sequence[int]], device: torch.device) -> Tensor:
    """One vector for each hotword, and a last one that stands for no hotword, (n + 1, dim)."""
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
    """The token ids after biasing by the hotwords, (n_rows,).

    `token_ids` are the decoder's own, `acoustic` is its input and `hidden` its last layer. Both
    are (n_rows, dim) in the layout `rows`. `hotwords` comes from `represent`.
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
    """For each item the hotwords it attends to most, then the last entry, (n_items, <= 51, dim).

    `hotwords` are the vectors of all entries, (n_entries, dim).
    """
    n_entries = len(hotwords)
    attention = attention_of(
        model.seaco_decoder, ASF_LAYER, hidden, rows, hotwords, rows.of_shared(n_entries)
    )
    scores = (attention.sum(1) * rows.mask[:, :, None]).sum(1)  # (n_items, n_entries)
    kept = scores.topk(min(MAX_ATTENDED, n_entries - 1)).indices
    last = torch.full_like(kept[:, :1], n_entries - 1)
    return hotwords[torch.cat([kept, last], 1)]
