"""SeACo- and BiCif-Paraformer: FunASR's modules and weights, batched so that nothing leaks.

The text and the times of a segment are those of `AutoModel.generate` for it alone, in any batch.
FunASR's own batches are not like that: its predictor convolution reads the padded encoder frames
and its LSTM runs backwards over them. Here padding is masked, and the LSTM is packed. There is no
state between calls, so that threads may share an engine.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence

from deployments.core.errors import EngineFailed, OutOfMemory
from deployments.core.text import join_words
from deployments.core.types import SAMPLES_PER_MS, Audio, Hints, Recognition
from deployments.engines.checkpoint import load_checkpoint, sentence_postprocess
from deployments.engines.cif import token_weights
from deployments.engines.device import prepare
from deployments.engines.features import Fbank, count_frames, normalise, stack_frames
from deployments.engines.hotwords import bias, read_seg_dict, represent, spell_all
from deployments.engines.protocols import EngineSettings, asr_info
from deployments.engines.timestamps import Times, fit_words, pad_times, token_times

CLASSES = ("SeacoParaformer", "BiCifParaformer")
DTYPES = {"cpu": ("fp32",), "cuda": ("fp32", "fp16", "bf16")}
HALF = {"fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass(frozen=True, slots=True)
class Reading:
    """FunASR's own words and times of a segment, before they are fitted into it."""

    texts: tuple[str, ...] = ()
    times_ms: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Encoded:
    """What the encoder and the predictor make of a batch; `alphas` and `upsampled` on the CPU."""

    hidden: Tensor  # (batch, n_frames + 1, dim) float32, zero after an item's end
    n_frames: Tensor  # (batch,)
    alphas: Tensor  # (batch, n_frames + 1) float32, zero after an item's tail
    upsampled: Tensor  # (batch, 3 * n_frames) float32
    n_tokens: Tensor  # (batch,), on the device


class Paraformer:
    """Reads Mandarin speech; hotwords where the model is SeACo."""

    def __init__(self, model_dir: Path, settings: EngineSettings) -> None:
        """Raises ModelUnavailable where the directory or the settings cannot be used."""
        self._device = prepare(settings, DTYPES)
        checkpoint = load_checkpoint(model_dir, settings.name, classes=CLASSES)
        self._half = HALF.get(settings.dtype)
        self._model = checkpoint.model.to(self._device)
        self._tokens = checkpoint.tokens
        self._silent_ids = {self._model.sos, self._model.eos, self._model.blank_id}
        self._fbank = Fbank(settings.device)
        self._lfr = checkpoint.lfr_m, checkpoint.lfr_n
        self._cmvn = None if checkpoint.cmvn is None else checkpoint.cmvn.to(self._device)
        self._token_ids = {token: i for i, token in enumerate(checkpoint.tokens)}
        self._seg_dict = read_seg_dict(checkpoint.seg_dict) if checkpoint.seg_dict else None
        self._takes_hotwords = checkpoint.config["model"] == "SeacoParaformer"
        family = "paraformer" if self._takes_hotwords else "paraformer-bicif"
        self.info = asr_info(family, settings)

    def transcribe(self, batch: Sequence[Audio], hints: Hints) -> list[Recognition]:
        """One recognition per item of int16 samples, in order; empty where no word is heard.

        Raises OutOfMemory where the batch does not fit into the device, EngineFailed otherwise.
        """
        readings = self.read(batch, hints)
        spelt = self._spell(hints)
        unspelt = tuple(hotword for hotword in hints.hotwords if hotword not in spelt)
        return [
            replace(recognise(reading, n_ms=len(audio) // SAMPLES_PER_MS), unspelt=unspelt)
            for audio, reading in zip(batch, readings, strict=True)
        ]

    @torch.inference_mode()
    def read(self, batch: Sequence[Audio], hints: Hints) -> list[Reading]:
        """As `transcribe`, with FunASR's words and times as they are.

        Audio that is shorter than a frame, or digital silence throughout, is not given to the
        model: there is nothing to hear.
        """
        readings = [Reading()] * len(batch)
        with translate_errors():
            audible = {
                index: self.features(audio)
                for index, audio in enumerate(batch)
                if count_frames(len(audio)) and audio.any()
            }
            if audible:
                found = self.decode(self.encode(list(audible.values())), hints)
                for index, reading in zip(audible, found, strict=True):
                    readings[index] = reading
        return readings

    def features(self, audio: Audio) -> Tensor:
        """The encoder's input, (n_frames, dim) at 60 ms a frame."""
        width, stride = self._lfr
        return normalise(stack_frames(self._fbank(audio), width=width, stride=stride), self._cmvn)

    def encode(self, features: Sequence[Tensor]) -> Encoded:
        """Encoder and predictor over a padded batch."""
        n_frames = torch.tensor([len(item) for item in features], device=self._device)
        with self._autocast():
            hidden, _, _ = self._model.encoder(pad_sequence(list(features), True), n_frames)
        hidden = hidden.float()
        n_padded = hidden.shape[1]
        mask = torch.arange(n_padded, device=self._device) < n_frames[:, None]
        hidden = hidden * mask[:, :, None]  # the predictor's convolution sees one frame ahead
        alphas = F.pad(self._alphas(hidden) * mask, (0, 1)).cpu()
        upsampled = self._upsampled_alphas(hidden, n_frames).cpu()
        lengths = n_frames.tolist()
        rows = range(len(lengths))
        alphas[rows, lengths] += self._model.predictor.tail_threshold
        # each row is summed alone: a sum over padding is rounded in another order
        sums = [alphas[row, : lengths[row] + 1].clone().sum() for row in rows]
        n_tokens = torch.stack(sums).floor().long().to(self._device)
        return Encoded(F.pad(hidden, (0, 0, 0, 1)), n_frames, alphas, upsampled, n_tokens)

    def _alphas(self, hidden: Tensor) -> Tensor:
        """The weight of each frame, (batch, n_frames)."""
        predictor = self._model.predictor
        context = torch.relu(predictor.cif_conv1d(predictor.pad(hidden.transpose(1, 2))))
        weights = torch.sigmoid(predictor.cif_output(context.transpose(1, 2)))
        scaled: Tensor = weights * predictor.smooth_factor - predictor.noise_threshold
        return torch.relu(scaled).squeeze(-1)

    def _upsampled_alphas(self, hidden: Tensor, n_frames: Tensor) -> Tensor:
        """The weights that time the tokens, (batch, 3 * n_frames), in one pass of the LSTM."""
        predictor = self._model.predictor
        frames = predictor.upsample_cnn(hidden.transpose(1, 2)).transpose(1, 2)
        if len(frames) == 1:
            states, _ = predictor.blstm(frames)
        else:  # packed: the backward direction must start at the item's own end
            lengths = (n_frames * predictor.upsample_times).cpu()
            packed = pack_padded_sequence(frames, lengths, True, enforce_sorted=False)
            states, _ = pad_packed_sequence(predictor.blstm(packed)[0], batch_first=True)
        weights = torch.sigmoid(predictor.cif_output2(states))
        scaled: Tensor = weights * predictor.smooth_factor2 - predictor.noise_threshold2
        return torch.relu(scaled).squeeze(-1)

    def decode(self, encoded: Encoded, hints: Hints) -> list[Reading]:
        """The words of each item of an encoded batch."""
        if not encoded.n_tokens.any():
            return [Reading()] * len(encoded.n_tokens)
        ids = self.token_ids(encoded, hints).cpu()
        return [
            self._reading(
                ids[row, :n_tokens].tolist(), encoded.upsampled[row, : 3 * n_frames], n_tokens
            )
            for row, (n_tokens, n_frames) in enumerate(
                zip(encoded.n_tokens.tolist(), encoded.n_frames.tolist(), strict=True)
            )
        ]

    def token_ids(self, encoded: Encoded, hints: Hints) -> Tensor:
        """The likeliest token at each place, (batch, max(n_tokens))."""
        acoustic = self.acoustic(encoded)
        logits, states = self.logits(encoded, acoustic)
        ids = logits.argmax(-1)
        hotwords = self._spell(hints)
        if not hotwords:
            return ids
        with self._autocast():
            return bias(
                self._model,
                ids,
                hotwords=represent(self._model, list(hotwords.values()), self._device),
                acoustic=acoustic,
                hidden=states,
                n_tokens=encoded.n_tokens,
            )

    def logits(self, encoded: Encoded, acoustic: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, max(n_tokens), vocabulary), and the decoder's last layer; padding is noise."""
        with self._autocast():
            logits, states, _ = self._model.decoder(
                encoded.hidden[:, :-1],
                encoded.n_frames,
                acoustic,
                encoded.n_tokens,
                return_hidden=True,
                return_both=True,
            )
        return logits, states

    def acoustic(self, encoded: Encoded) -> Tensor:
        """The decoder's input: one vector for each token, (batch, max(n_tokens), dim)."""
        weights = token_weights(
            encoded.alphas.numpy(),
            encoded.n_tokens.cpu().numpy(),
            threshold=self._model.predictor.threshold,
        )
        return torch.from_numpy(weights).to(self._device) @ encoded.hidden

    def _spell(self, hints: Hints) -> dict[str, list[int]]:
        if not self._takes_hotwords:
            return {}
        return spell_all(hints.hotwords, self._seg_dict, self._token_ids)

    def _reading(self, ids: list[int], upsampled: Tensor, n_tokens: int) -> Reading:
        tokens = [self._tokens[i] for i in ids if i not in self._silent_ids]
        if not tokens:
            return Reading()
        # tensor by tensor: torch turns a number by a tensor into a product, rounded otherwise
        scale = torch.tensor([n_tokens]) / upsampled.clone().unsqueeze(0).sum(-1)
        times = pad_times(token_times(upsampled * scale, len(tokens)), len(tokens))
        return postprocess(tokens, times)

    def _autocast(self) -> contextlib.AbstractContextManager[object]:
        if self._half is None:
            return contextlib.nullcontext()
        return torch.autocast(self._device.type, dtype=self._half)


def postprocess(tokens: list[str], times: Times) -> Reading:
    """The tokens as FunASR's words: parts joined, single letters as one abbreviation.

    FunASR fails where two tokens without a time, such as "&", stand before an abbreviation. Such
    a segment gets the words, and one time for all of them.
    """
    try:
        _, word_times, texts = sentence_postprocess(tokens, times)
    except IndexError:
        _, texts = sentence_postprocess(tokens)
        word_times = [(times[0][0], times[-1][1])]
    return Reading(tuple(texts), tuple((start, end) for start, end in word_times))


def recognise(reading: Reading, *, n_ms: int) -> Recognition:
    """The reading of a segment of `n_ms`, with words inside it."""
    words = tuple(fit_words(reading.texts, reading.times_ms, n_ms=n_ms))
    return Recognition(join_words(words), words)


@contextlib.contextmanager
def translate_errors() -> Iterator[None]:
    """torch's errors as ours."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise OutOfMemory(f"The batch does not fit into the device's memory: {error}") from error
    except RuntimeError as error:
        raise EngineFailed(f"Paraformer failed: {error}") from error
