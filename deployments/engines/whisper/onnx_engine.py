"""Whisper on ONNX Runtime: the fallback if Paraformer's weights cannot be had. CPU only, int8.

The decoding loop is our own. That of the library onnx-asr has no prompt, no time tokens, no guards
and no limit in proportion to the audio. Items are read one at a time: the int8 graphs scale by the
largest value of a batch, so the items of a batch would change each other's results.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from deployments.core.errors import EngineFailed, ModelUnavailable
from deployments.core.types import SAMPLES_PER_MS, Audio, Hints, Recognition
from deployments.engines.protocols import EngineSettings
from deployments.engines.whisper import guards
from deployments.engines.whisper.contract import (
    WINDOW_MS,
    full_prompt,
    known_language,
    whisper_info,
)
from deployments.engines.whisper.decoder import Decoded, WhisperDecoder, decode_greedily
from deployments.engines.whisper.encoder import WhisperEncoder
from deployments.engines.whisper.text import Heard, recognition
from deployments.engines.whisper.tokens import (
    TokenRules,
    heard_until_ms,
    load_vocabulary,
    timed_tokens,
)

ENCODER = "encoder_model_quantized.onnx"
DECODER = "decoder_model_merged_quantized.onnx"
N_MELS = 80  # for every size of Whisper up to medium
RUNTIME_ERRORS = (ort_errors.Fail, ort_errors.RuntimeException, ort_errors.InvalidArgument)


class WhisperOnnx:
    """A quantised Hugging Face export of Whisper with a merged decoder, such as whisper-small."""

    def __init__(self, model_dir: Path, settings: EngineSettings) -> None:
        """Raises ModelUnavailable for settings that it cannot run, and for missing files."""
        self.info = whisper_info(settings, dtype="int8")
        self._vocabulary = load_vocabulary(model_dir)
        options = session_options(settings.num_threads)
        self._encoder = WhisperEncoder(_file(model_dir, ENCODER, settings.name), options)
        self._decoder = WhisperDecoder(_file(model_dir, DECODER, settings.name), options)

    def transcribe(self, batch: Sequence[Audio], hints: Hints) -> list[Recognition]:
        """One recognition per item. An item that fails carries its error and harms no other item.

        Raises BadRequest for a language that the model does not know.
        """
        language = known_language(hints.language, self._vocabulary.language_ids)
        prompt = full_prompt(language, hints.prompt)
        return [self._recognise(audio, language, prompt) for audio in batch]

    def _recognise(self, audio: Audio, language: str, prompt: str) -> Recognition:
        try:
            pieces = list(self._hear(audio, language, prompt))
        except RUNTIME_ERRORS as error:
            return Recognition("", error=str(EngineFailed(f"Whisper failed: {error}")))
        n_ms = len(audio) // SAMPLES_PER_MS
        return recognition(pieces, n_ms=n_ms, language=language, prompt=prompt)

    def _hear(self, audio: Audio, language: str, prompt: str) -> Iterator[Heard]:
        """The pieces of each window. A window begins where the model stopped in the one before."""
        prefix = self._vocabulary.prefix(language, prompt)
        start_ms, n_ms = 0, len(audio) // SAMPLES_PER_MS
        while start_ms < n_ms:
            window = audio[start_ms * SAMPLES_PER_MS :][: WINDOW_MS * SAMPLES_PER_MS]
            if guards.is_silent(window):
                start_ms += WINDOW_MS
                continue
            window_ms = len(window) // SAMPLES_PER_MS
            decoded = self._decode(window, window_ms, prefix)
            confidence = guards.Confidence(decoded.no_speech_prob, decoded.avg_logprob)
            for run in timed_tokens(_kept(decoded), self._vocabulary):
                end_ms = window_ms if run.end_ms is None else run.end_ms
                text = self._vocabulary.decode(run.tokens)
                yield Heard(text, start_ms + run.start_ms, start_ms + end_ms, confidence)
            start_ms += heard_until_ms(decoded.tokens, self._vocabulary, window_ms)

    def _decode(self, window: Audio, window_ms: int, prefix: Sequence[int]) -> Decoded:
        vocabulary = self._vocabulary
        return decode_greedily(
            self._decoder,
            self._encoder.encode(window, N_MELS),
            prefix,
            rules=TokenRules(vocabulary, window_ms).apply,
            stop=lambda written: guards.runs_away(written, window_ms),
            start_token=vocabulary.id_of_token["<|startoftranscript|>"],
            end_token=vocabulary.end,
            no_speech_token=vocabulary.no_speech,
            max_new_tokens=guards.max_new_tokens(window_ms),
        )


def session_options(num_threads: int) -> ort.SessionOptions:
    """The ONNX Runtime options of both graphs."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # hides warnings about the export's unused initialisers
    # Waiting threads must not spin: other processes of the node need the cores.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Without this, every step converts the table of 51,865 tokens to floats twice, and takes 3
    # times as long (measured). It costs 320 MiB.
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    return options


def _kept(decoded: Decoded) -> tuple[int, ...]:
    """The tokens to keep: all, or those before the first repeat if decoding was cut off."""
    return decoded.tokens if decoded.ended else guards.without_repeats(decoded.tokens)


def _file(model_dir: Path, name: str, model: str) -> Path:
    """The path of a graph: in the model's directory, or in `onnx/` below it, as on the hubs."""
    for path in (model_dir / name, model_dir / "onnx" / name):
        if path.is_file():
            return path
    raise ModelUnavailable(model, f"{model_dir} has no {name}; fetch the weights again.")
