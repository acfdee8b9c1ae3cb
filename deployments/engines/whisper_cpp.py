"""Whisper through whisper.cpp: the smallest engine, for the weakest machines. CPU only.

Not thread-safe: a call sets parameters on the one context and reads its result from there. The
replica's owner thread makes the calls one after the other.

It reads the whole window of 30 s, unlike `whisper_onnx`: tiny is a third worse on a shorter one
(measured: 43.6 % of the clips' characters wrong at 10 s, 32.8 % at 30 s). The number of threads is
part of the arithmetic, since each sums up a part of its own: a text may depend on it, and depends
on nothing said before (measured). The threads spin at their barriers: on cores that others use,
one thread is many times faster than two.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pywhispercpp.model import Model
from pywhispercpp.model import Segment as Piece

from deployments.core.errors import ModelUnavailable
from deployments.core.types import SAMPLES_PER_MS, Audio, Hints, Recognition
from deployments.engines import whisper_guards as guards
from deployments.engines.protocols import EngineSettings
from deployments.engines.whisper_contract import full_prompt, known_language, whisper_info
from deployments.engines.whisper_text import Heard, recognition

MS_PER_TICK = 10  # of whisper.cpp's times
# Below this the model guesses. Measured with tiny: -0.2 to -1.5 on speech.
MIN_AVG_LOGPROB = -1.6


class WhisperCpp:
    """A ggml model file of any size, such as ggml-tiny.bin."""

    def __init__(self, model_dir: Path, settings: EngineSettings) -> None:
        """Raises ModelUnavailable for settings that it cannot run, and for a missing file."""
        self.info = whisper_info(settings, dtype="fp16")
        files = sorted(model_dir.glob("*.bin"))
        if len(files) != 1:
            raise ModelUnavailable(
                settings.name, f"{model_dir} must hold one .bin file, and holds {len(files)}."
            )
        self._languages = frozenset(Model.available_languages())
        self._model = Model(
            str(files[0]),
            redirect_whispercpp_logs_to=None,
            context_params={"use_gpu": False},
            n_threads=settings.num_threads,
            print_progress=False,
            print_timestamps=False,
            no_context=True,  # nothing is carried from one item to the next
            suppress_nst=True,  # no "(music)"
            temperature_inc=0.0,  # no second try with dice: the same audio gives the same text
        )

    def transcribe(self, batch: Sequence[Audio], hints: Hints) -> list[Recognition]:
        """One recognition per item. One that fails is empty: the binding drops the error code.

        Raises BadRequest for a language that the model does not know.
        """
        language = known_language(hints.language, self._languages)
        prompt = full_prompt(language, hints.prompt)
        return [self._recognise(audio, language, prompt) for audio in batch]

    def _recognise(self, audio: Audio, language: str, prompt: str) -> Recognition:
        if guards.is_silent(audio):
            return Recognition("")
        n_ms = len(audio) // SAMPLES_PER_MS
        pieces = self._model.transcribe(
            audio.astype(np.float32) / np.float32(32768),
            extract_probability=True,
            language=language,
            initial_prompt=prompt,
            max_tokens=guards.max_new_tokens(n_ms),
        )
        heard = [_heard(piece) for piece in pieces]
        sure = [piece for piece in heard if piece.confidence.avg_logprob > MIN_AVG_LOGPROB]
        return recognition(sure, n_ms=n_ms, language=language, prompt=prompt)


def _heard(piece: Piece) -> Heard:
    """A piece in the project's terms, cut where it begins to loop.

    whisper.cpp tells no probability of no speech; it applies the threshold itself. Of a piece that
    loops it is sure, since nothing is likelier than one more copy: such a piece is in doubt here.
    """
    text = guards.cut_at_loop(piece.text, (piece.t1 - piece.t0) * MS_PER_TICK)
    logprob = math.log(piece.probability) if piece.probability > 0 else -math.inf
    if text != piece.text:
        logprob = min(logprob, guards.DOUBT_AVG_LOGPROB - 0.1)
    confidence = guards.Confidence(no_speech_prob=math.nan, avg_logprob=logprob)
    return Heard(text, piece.t0 * MS_PER_TICK, piece.t1 * MS_PER_TICK, confidence)
