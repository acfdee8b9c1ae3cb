"""Whisper through whisper.cpp: the smallest engine, for the weakest machines. CPU only.

It is not thread-safe, because a call sets parameters on the one context and reads its result from
there. The replica's owner thread makes the calls one after the other.

Unlike `onnx_engine.py` it always reads the whole window of 30 s, because the tiny model is a third
worse on a shorter one. Measured: 43.6 % of the clips' characters are wrong at 10 s, 32.8 % at 30 s.

Each thread adds up a part of the sums, so a text may depend on the number of threads. It does not
depend on earlier calls (measured). The threads spin while they wait for each other: on cores that
other processes use, one thread is many times faster than two.
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
from deployments.engines.protocols import EngineSettings
from deployments.engines.whisper import guards
from deployments.engines.whisper.contract import full_prompt, known_language, whisper_info
from deployments.engines.whisper.text import Heard, recognition

MS_PER_TICK = 10  # of whisper.cpp's times
# Below this the model is guessing. Measured with tiny on speech: -0.2 to -1.5.
MIN_AVG_LOGPROB = -1.6


class WhisperCpp:
    """A ggml model file of any size, such as ggml-tiny.bin."""

    def __init__(self, model_dir: Path, settings: EngineSettings) -> None:
        """Raises ModelUnavailable for settings that it cannot run, and unless there is one file."""
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
            no_context=True,  # nothing carries over from one item to the next
            suppress_nst=True,  # no "(music)"
            temperature_inc=0.0,  # no retry at random: the same audio gives the same text
        )

    def transcribe(self, batch: Sequence[Audio], hints: Hints) -> list[Recognition]:
        """One recognition per item. A failed item is empty, because the binding drops its error.

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
    """Converts a piece, and cuts its text where it begins to loop.

    whisper.cpp does not report the probability of no speech; it applies the threshold itself. In a
    loop it reports a high probability, since nothing is likelier than one more copy. So a piece
    that loops gets a lower confidence here.
    """
    text = guards.cut_at_loop(piece.text, (piece.t1 - piece.t0) * MS_PER_TICK)
    logprob = math.log(piece.probability) if piece.probability > 0 else -math.inf
    if text != piece.text:
        logprob = min(logprob, guards.DOUBT_AVG_LOGPROB - 0.1)
    confidence = guards.Confidence(no_speech_prob=math.nan, avg_logprob=logprob)
    return Heard(text, piece.t0 * MS_PER_TICK, piece.t1 * MS_PER_TICK, confidence)
