"""Paraformer on ONNX Runtime, from the graphs of `export_onnx.py`. CPU only, no hotwords.

Features, integrate-and-fire, times and words are computed as in `engine.py`. The float32 graphs
take a whole batch, whose items are kept apart by masks. The int8 graphs get one item at a time,
because they have one scale for all activations of a call. The items of a batch would change each
other's results.

Measured against the torch engine in int8, on one core with 60 segments and random weights in the
true shapes:

- Speed: 1.3 times that of the torch engine if segments come one by one, 0.8 times in batches.
- Resident memory, at work and while loading: 800 MiB. The torch engine: 770 and 830 MiB.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors
from torch import Tensor

from deployments.core.errors import EngineFailed, ModelUnavailable
from deployments.core.types import SAMPLES_PER_MS, Audio, Hints, Recognition
from deployments.engines.checkpoint import (
    check_frontend,
    read_config,
    read_tokens,
    refuse_as_unavailable,
)
from deployments.engines.device import prepare
from deployments.engines.families import asr_info
from deployments.engines.features import Fbank, count_frames, normalise, read_cmvn, stack_all
from deployments.engines.packed import Rows
from deployments.engines.paraformer.cif import token_weights
from deployments.engines.paraformer.int8 import LIMIT, weight_limit
from deployments.engines.paraformer.onnx_directory import DECODER, ENCODER, Export, read_export
from deployments.engines.paraformer.predictor import add_tail
from deployments.engines.paraformer.readings import Reading, recognise
from deployments.engines.paraformer.readings import read_tokens as read_words
from deployments.engines.protocols import EngineSettings

FAMILY = "paraformer-onnx"
DTYPES = {"cpu": ("fp32", "int8")}
CPU = torch.device("cpu")
RUNTIME_ERRORS = (
    ort_errors.Fail,
    ort_errors.RuntimeException,
    ort_errors.InvalidArgument,
    RuntimeError,
)


@dataclass(frozen=True, slots=True)
class Encoded:
    """A batch after the encoder graph and the count of its tokens."""

    hidden: Tensor  # (n_items, longest, dim) float32, zero after an item's end
    frames: Rows
    alphas: Tensor  # (n_items, longest + 1) float32, with the tail
    upsampled: Tensor  # (n_items, 3 * longest) float32
    n_tokens: Tensor  # (n_items,) int64


class ParaformerOnnx:
    """Recognises Mandarin speech with the graphs of an exported directory."""

    def __init__(self, model_dir: Path, settings: EngineSettings) -> None:
        """Raises ModelUnavailable if the directory or the settings cannot be used.

        The number format is that of the exported graphs, whatever the settings say.
        """
        prepare(settings, DTYPES)
        with refuse_as_unavailable(settings.name, model_dir):
            self._export = read_export(model_dir)
            _check_processor(self._export, settings.name)
            config = read_config(model_dir)
            frontend = config.get("frontend_conf") or {}
            check_frontend(frontend, settings.name)
            self._tokens = read_tokens(config)
            self._lfr = int(frontend.get("lfr_m", 1)), int(frontend.get("lfr_n", 1))
            self._cmvn = read_cmvn(Path(frontend["cmvn_file"]))
            self._encoder = _session(model_dir / ENCODER, settings.num_threads)
            self._decoder = _session(model_dir / DECODER, settings.num_threads)
        self._fbank = Fbank()
        self.info = asr_info(FAMILY, replace(settings, dtype=self._export.dtype))

    def transcribe(self, batch: Sequence[Audio], hints: Hints) -> list[Recognition]:
        """One recognition per item of int16 samples, in order; empty if no word is heard.

        Raises EngineFailed if the runtime fails.
        """
        return [
            recognise(reading, n_ms=len(audio) // SAMPLES_PER_MS)
            for audio, reading in zip(batch, self.read(batch, hints), strict=True)
        ]

    @torch.inference_mode()
    def read(self, batch: Sequence[Audio], hints: Hints) -> list[Reading]:
        """As `transcribe`, but with FunASR's own words and times."""
        readings = [Reading()] * len(batch)
        heard = [i for i, a in enumerate(batch) if count_frames(len(a)) and a.any()]
        at_once = 1 if self._export.dtype == "int8" else max(1, len(heard))
        with translate_errors():
            for first in range(0, len(heard), at_once):
                some = heard[first : first + at_once]
                encoded = self.encode([batch[i] for i in some])
                for index, reading in zip(some, self.decode(encoded), strict=True):
                    readings[index] = reading
        return readings

    def encode(self, audios: Sequence[Audio]) -> Encoded:
        """Computes the features and runs the encoder graph."""
        rows = Rows([count_frames(len(audio)) for audio in audios], CPU, by_item=True)
        width, stride = self._lfr
        stacked, frames = stack_all(self._fbank.of_all(audios), rows, width=width, stride=stride)
        padded = frames.pad(normalise(stacked, self._cmvn))
        lengths = np.array(frames.lengths, np.int64)
        found = self._encoder.run(None, {"features": padded.numpy(), "lengths": lengths})
        hidden, alphas, upsampled = map(torch.from_numpy, found)
        alphas = add_tail(alphas, frames, self._export.tail_threshold)
        # Each item's own frames only: a sum over padding would be rounded in another order.
        sums = [alphas[i, : n + 1].clone().sum().floor() for i, n in enumerate(frames.lengths)]
        return Encoded(hidden, frames, alphas, upsampled, torch.stack(sums).long())

    def decode(self, encoded: Encoded) -> list[Reading]:
        """The words of each item, from integrate-and-fire and the decoder graph."""
        readings = [Reading()] * len(encoded.n_tokens)
        speaking = encoded.n_tokens.nonzero().flatten()
        if not len(speaking):
            return readings
        for row, ids in zip(speaking.tolist(), self._token_ids(encoded, speaking), strict=True):
            n_tokens = int(encoded.n_tokens[row])
            said = (i for i in ids[:n_tokens].tolist() if i not in self._export.silent_ids)
            upsampled = encoded.upsampled[row, : 3 * encoded.frames.lengths[row]]
            readings[row] = read_words([self._tokens[i] for i in said], upsampled, n_tokens)
        return readings

    def _token_ids(self, encoded: Encoded, speaking: Tensor) -> NDArray[np.int64]:
        """The likeliest token ids of the items that have tokens, (n_speaking, most_tokens)."""
        alphas, n_tokens = encoded.alphas[speaking], encoded.n_tokens[speaking].numpy()
        weights = token_weights(alphas.numpy(), n_tokens, threshold=self._export.threshold)
        hidden = encoded.hidden[speaking]
        # The added frame after the last has a weight but no hidden vector, so it is cut off.
        acoustic = torch.from_numpy(weights[:, :, : hidden.shape[1]]) @ hidden
        lengths = np.array(encoded.frames.lengths, np.int64)[speaking.numpy()]
        fed = {"acoustic": acoustic.numpy(), "n_tokens": n_tokens, "hidden": hidden.numpy()}
        ids: NDArray[np.int64] = self._decoder.run(None, fed | {"lengths": lengths})[0]
        return ids


@contextlib.contextmanager
def translate_errors() -> Iterator[None]:
    """Turns ONNX Runtime's errors into EngineFailed."""
    try:
        yield
    except RUNTIME_ERRORS as error:
        raise EngineFailed(f"Paraformer on ONNX Runtime failed: {error}") from error


def _check_processor(export: Export, name: str) -> None:
    if export.weight_bits == 8 and weight_limit() < LIMIT:
        raise ModelUnavailable(
            name,
            "its 8-bit weights saturate on this processor, which has no VNNI. Export it again "
            "with --weight-bits 7.",
        )


def _session(path: Path, num_threads: int) -> ort.InferenceSession:
    if not path.is_file():
        raise FileNotFoundError(2, "No such file", str(path))
    options = ort.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Waiting threads must not spin: other processes of the node need the cores.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except (ort_errors.InvalidProtobuf, *RUNTIME_ERRORS) as error:
        raise ValueError(f"{path.name}: {error}") from error
