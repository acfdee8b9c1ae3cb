"""SeACo- and BiCif-Paraformer on FunASR's modules and weights; no item affects another in a batch.

In any batch, a segment's text and times are those of `AutoModel.generate` for this segment alone.
FunASR's own batches are different: its predictor convolution reads the padded encoder frames, and
its LSTM runs backwards over them. Here padding is masked, and the LSTM is packed. Between calls an
engine keeps only a cache of hotword vectors, so threads may share it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deployments.core.types import SAMPLES_PER_MS, Audio, Hints, Recognition
from deployments.engines.checkpoint import load_checkpoint
from deployments.engines.copy_in import CopyIn, some_of
from deployments.engines.device import Dtypes, prepare, translated
from deployments.engines.families import asr_info
from deployments.engines.features import (
    N_MELS,
    Fbank,
    count_frames,
    normalise,
    stack_all,
)
from deployments.engines.half import HALF
from deployments.engines.packed import Rows, to_device, to_host
from deployments.engines.paraformer.cif import Fires, acoustic_weights, find_fires, fires_of_rows
from deployments.engines.paraformer.hotwords import bias, read_seg_dict, represent, spell_all
from deployments.engines.paraformer.int8 import for_cpu
from deployments.engines.paraformer.predictor import add_tail, frame_weights, time_weights
from deployments.engines.paraformer.readings import Reading, read_tokens, recognise
from deployments.engines.paraformer.sanm import check_supported, decode, encode, positions
from deployments.engines.pieces import as_it_is
from deployments.engines.protocols import EngineSettings

CLASSES = ("SeacoParaformer", "BiCifParaformer")
DTYPES = {"cpu": ("fp32", "int8"), "cuda": ("fp32", "fp16", "bf16")}
FRAME_MS = 60  # of the encoder
FAST_TOKENS_PER_S = 7.0  # the token rate of a hurried speaker
# The lists of hotwords whose vectors are kept, because all batches of a request share one list. A
# hotword takes 2 KiB.
REMEMBERED_LISTS = 16


@dataclass(frozen=True, slots=True)
class Encoded:
    """A batch after the encoder and the predictor. Tensors are on the CPU unless stated."""

    hidden: Tensor  # (n_rows, dim) float32, on the device
    frames: Rows
    alphas: Tensor  # (batch, longest + 1) float32, zero after an item's end and tail
    # (batch, 3 * longest) float32, zero after an item's end, on the device; None: no word times
    upsampled: Tensor | None
    n_tokens: Tensor  # (batch,) int64
    fires: Fires | None  # on the device; None: the compiled loop decides for all items
    doubtful: Tensor  # (batch,) bool: the items for which the compiled loop decides


class Paraformer:
    """Recognises Mandarin speech. A SeACo model also takes hotwords."""

    def __init__(
        self,
        model_dir: Path,
        settings: EngineSettings,
        *,
        dtypes: Dtypes = DTYPES,
        by_item: bool | None = None,
    ) -> None:
        """Raises ModelUnavailable if the directory or the settings cannot be used.

        `dtypes` are the number formats that are allowed. `by_item` says how rows are mixed (see
        `Rows`); None chooses what is best for the device. Tests change both, to run a GPU's code
        on a CPU.
        """
        self._device = prepare(settings, dtypes)
        self._by_item = settings.device == "cpu" if by_item is None else by_item
        adapt = for_cpu(settings.dtype) if settings.device == "cpu" else as_it_is
        checkpoint = load_checkpoint(model_dir, settings.name, classes=CLASSES, adapt=adapt)
        check_supported(checkpoint.model, settings.name)
        self._dtype = HALF.get(settings.dtype, torch.float32)
        self.geometry = checkpoint.geometry
        self._model = checkpoint.model.to(self._device)
        if self._dtype is not torch.float32:
            halve(self._model, self._dtype)
        self._tokens = checkpoint.tokens
        self._silent_ids = {self._model.sos, self._model.eos, self._model.blank_id}
        self._fbank = Fbank(settings.device)
        self.copy_in = CopyIn(self._device)
        self._lfr = checkpoint.lfr_m, checkpoint.lfr_n
        self._cmvn = None if checkpoint.cmvn is None else checkpoint.cmvn.to(self._device)
        self._token_ids = {token: i for i, token in enumerate(checkpoint.tokens)}
        self._seg_dict = read_seg_dict(checkpoint.seg_dict) if checkpoint.seg_dict else None
        self._takes_hotwords = checkpoint.config["model"] == "SeacoParaformer"
        family = "paraformer" if self._takes_hotwords else "paraformer-bicif"
        self.info = asr_info(family, settings)
        # `partial` holds the model, not the engine. With the engine there would be a cycle, and the
        # weights would stay in memory until the garbage collector runs.
        self._represent = lru_cache(REMEMBERED_LISTS)(
            partial(represent, self._model, device=self._device)
        )
        n_frames = self.info.max_segment_ms // FRAME_MS + 1
        dim = checkpoint.lfr_m * N_MELS
        self._positions = positions(self._model.encoder, n_frames, dim).to(self._device)

    def transcribe(self, batch: Sequence[Audio], hints: Hints) -> list[Recognition]:
        """One recognition per item of int16 samples, in order; empty if no word is heard.

        Raises OutOfMemory if the batch does not fit into the device's memory, EngineFailed for
        any other failure of the model.
        """
        readings = self.read(batch, hints)
        spelt = self._spell(hints)
        unspelt = tuple(hotword for hotword in hints.hotwords if hotword not in spelt)
        return [
            replace(recognise(reading, n_ms=len(audio) // SAMPLES_PER_MS), unspelt=unspelt)
            for audio, reading in zip(batch, readings, strict=True)
        ]

    @translated("Paraformer")
    @torch.inference_mode()
    def read(self, batch: Sequence[Audio], hints: Hints) -> list[Reading]:
        """As `transcribe`, but with FunASR's own words and times.

        Audio that is shorter than a frame, or that is all zeros, holds nothing to hear. It is not
        given to the model. All times are 0 if the hints are not `timed`: the layers that are for
        the word times alone are then left out.
        """
        readings = [Reading()] * len(batch)
        heard = [i for i, a in enumerate(batch) if count_frames(len(a)) and a.any()]
        if heard:
            audios = batch if len(heard) == len(batch) else some_of(batch, heard)
            encoded = self.encode(*self.features(audios), timed=hints.timed)
            for index, reading in zip(heard, self.decode(encoded, hints), strict=True):
                readings[index] = reading
        return readings

    @translated("Paraformer")
    @torch.inference_mode()
    def rehearse(self, n_items: int, n_ms: int) -> None:
        """Uses the memory of `n_items` segments of `n_ms` of fast speech; see `calibration`.

        The audio is noise, in which trained weights hear nothing. So the frame weights are
        replaced by constant ones, and tokens fire at an even rate.
        """
        noise = np.random.default_rng(0).integers(-999, 999, n_ms * SAMPLES_PER_MS, np.int16)
        encoded = self.encode(*self.features([noise] * n_items))
        alphas = torch.full_like(encoded.alphas, FAST_TOKENS_PER_S * FRAME_MS / 1000 + 1e-5)
        self.decode(
            replace(
                encoded,
                alphas=alphas,
                n_tokens=alphas.double().sum(1).floor().long(),
                fires=None if encoded.fires is None else find_fires(alphas.to(self._device)),
            ),
            Hints(),
        )

    def features(self, audios: Sequence[Audio]) -> tuple[Tensor, Rows]:
        """The encoder's input, (n_rows, dim) at 60 ms a row, and its layout."""
        rows = self._rows([count_frames(len(audio)) for audio in audios])
        width, stride = self._lfr
        stacked, frames = stack_all(self._fbank.of_all(audios), rows, width=width, stride=stride)
        return normalise(stacked, self._cmvn), frames

    def encode(self, features: Tensor, frames: Rows, *, timed: bool = True) -> Encoded:
        """Runs the encoder and the predictor over a batch. Waits for a GPU once.

        `timed` says whether to compute the weights for the word times.
        """
        hidden = self.hidden(features, frames).float()
        predictor = self._model.predictor
        alphas = frame_weights(predictor, hidden, frames)
        alphas = add_tail(alphas, frames, predictor.tail_threshold)
        upsampled = time_weights(predictor, hidden, frames) if timed else None
        lengths = frames.lengths
        if self._by_item or predictor.threshold != 1.0:
            (alphas,) = to_host(alphas)
            doubtful = torch.ones(len(lengths), dtype=torch.bool)
            fires, n_tokens = None, torch.zeros(len(lengths), dtype=torch.int64)
        else:
            fires = find_fires(alphas)
            alphas, n_tokens, doubtful = to_host(alphas, fires.n_tokens, fires.doubtful)
        for row in doubtful.nonzero().flatten().tolist():
            # The item's own frames only: a sum over padding would be rounded in another order.
            n_tokens[row] = alphas[row, : lengths[row] + 1].clone().sum().floor().long()
        return Encoded(hidden, frames, alphas, upsampled, n_tokens, fires, doubtful)

    def hidden(self, features: Tensor, frames: Rows) -> Tensor:
        """The encoder's hidden frames, (n_rows, dim) of the engine's dtype."""
        return encode(self._model.encoder, self._placed(features, frames), frames, self._dtype)

    def _rows(self, lengths: Sequence[int]) -> Rows:
        return Rows(lengths, self._device, by_item=self._by_item)

    def _placed(self, features: Tensor, frames: Rows) -> Tensor:
        """The features scaled, with the positional encoding added, (n_rows, dim)."""
        encoder, table = self._model.encoder, self._positions
        if frames.longest > len(table):
            table = to_device(positions(encoder, frames.longest, table.shape[1]), self._device)
        placed: Tensor = features * encoder.output_size() ** 0.5
        return placed.add_(table.index_select(0, frames.places))

    def decode(self, encoded: Encoded, hints: Hints) -> list[Reading]:
        """The words of each item of an encoded batch. Waits for a GPU once."""
        readings = [Reading()] * len(encoded.n_tokens)
        n_tokens = encoded.n_tokens.tolist()
        speaking = [row for row, n in enumerate(n_tokens) if n]
        if not speaking:
            return readings
        timed = () if encoded.upsampled is None else (encoded.upsampled,)
        all_ids, *upsampled = to_host(self.token_ids(encoded, hints), *timed)
        ids = iter(all_ids.tolist())
        for row in speaking:
            times = upsampled[0][row, : 3 * encoded.frames.lengths[row]] if upsampled else None
            tokens = [
                self._tokens[i] for i in islice(ids, n_tokens[row]) if i not in self._silent_ids
            ]
            readings[row] = read_tokens(tokens, times, n_tokens[row])
        return readings

    def token_ids(self, encoded: Encoded, hints: Hints) -> Tensor:
        """The likeliest token id at each position of the items that have tokens, (n_rows,)."""
        logits, states, acoustic, tokens = self.logits(encoded)
        ids = logits.argmax(-1)
        hotwords = self._spell(hints)
        if not hotwords:
            return ids
        entries = self._represent(tuple(map(tuple, hotwords.values())))
        return bias(
            self._model, ids, hotwords=entries, acoustic=acoustic, hidden=states, rows=tokens
        )

    def logits(self, encoded: Encoded) -> tuple[Tensor, Tensor, Tensor, Rows]:
        """The logits, the decoder's last layer, the decoder's input, and the layout of the tokens.

        The logits are (n_rows of tokens, vocabulary). Items without a token are left out.
        """
        speaking = [row for row, n in enumerate(encoded.n_tokens.tolist()) if n]
        items = list(encoded.frames.items())
        hidden = encoded.hidden
        if len(speaking) < len(items):
            hidden = torch.cat([hidden[items[row]] for row in speaking])
        frames = self._rows([encoded.frames.lengths[row] for row in speaking])
        tokens = self._rows(encoded.n_tokens[speaking].tolist())
        fires = encoded.fires
        if fires is not None and len(speaking) < len(items):
            fires = fires_of_rows(fires, to_device(torch.tensor(speaking), self._device))
        weights = acoustic_weights(
            encoded.alphas[speaking],
            encoded.n_tokens[speaking],
            fires,
            encoded.doubtful[speaking].nonzero().flatten(),
            threshold=self._model.predictor.threshold,
            device=self._device,
        )
        # The added frame after the last has a weight but no hidden vector, so it is cut off.
        acoustic = tokens.unpad(weights[:, :, : frames.longest] @ frames.pad(hidden))
        decoder = self._model.decoder
        states = decode(decoder, acoustic.to(self._dtype), tokens, hidden.to(self._dtype), frames)
        return decoder.output_layer(states), states.float(), acoustic, tokens

    def _spell(self, hints: Hints) -> dict[str, list[int]]:
        if not self._takes_hotwords:
            return {}
        return spell_all(hints.hotwords, self._seg_dict, self._token_ids)


def halve(model: Any, dtype: torch.dtype) -> None:
    """Casts the weights of the costly layers to half precision.

    The weights that decide when a token fires stay in float32. So do the hotword decoder and the
    embedding that it reads.
    """
    decoder, predictor = model.decoder, model.predictor
    parts = [model.encoder, decoder.decoders, decoder.decoders2, decoder.decoders3]
    parts += [decoder.after_norm, decoder.output_layer, predictor.upsample_cnn, predictor.blstm]
    for part in parts:
        if part is not None:
            part.to(dtype)
