"""FunASR's `AutoModel`, the yardstick of the engines: loaded in silence, fed one item at a time."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from deployments.core.types import Audio, Span
from deployments.engines.fsmn_vad import MAX_END_SILENCE_MS, MAX_SEGMENT_MS
from deployments.engines.readings import Reading

Floats: TypeAlias = NDArray[np.float32]

FUNASR_THREADS = 4  # its own number

# What the VAD engine has. FunASR heeds both only where its constructor is given them.
VAD_LIMITS: dict[str, Any] = {
    "max_end_silence_time": MAX_END_SILENCE_MS,
    "max_single_segment_time": MAX_SEGMENT_MS,
}


def as_funasr(audio: Audio | Floats) -> Floats:
    """(n_samples,) float32, -1..1, of int16 samples; what is float32 stays what it is."""
    if audio.dtype == np.float32:
        return audio.astype(np.float32, copy=False)
    return audio.astype(np.float32) / np.float32(32768)


class AutoModelAlone:
    """An `AutoModel` that is fed one item at a time."""

    def __init__(
        self, model_dir: Path, *, device: str = "cpu", n_cpu: int = 1, **options: Any
    ) -> None:
        """`options` go to `AutoModel` as they are."""
        with quiet():
            from funasr import AutoModel

            self._model: Any = AutoModel(
                model=str(model_dir),
                device=device,
                ncpu=n_cpu,
                disable_update=True,
                disable_pbar=True,
                log_level="ERROR",
                **options,
            )

    def generate(self, item: Audio | Floats | str, **options: Any) -> dict[str, Any]:
        """FunASR's result for audio or a text; empty where it gives none.

        A time that is taken of it should not hold the conversion: give it `as_funasr` of int16.
        """
        data = item if isinstance(item, str) else as_funasr(item)
        with quiet():
            results = self._model.generate(input=[data], **options)
        return results[0] if results and results[0] else {}

    def read(self, audio: Audio | Floats, **options: Any) -> Reading:
        """An ASR model's words and times of one segment."""
        result = self.generate(audio, **options)
        times = tuple((start, end) for start, end in result.get("timestamp", ()))
        return Reading(tuple(result.get("text", "").split()), times)

    def spans(self, audio: Audio | Floats) -> list[Span]:
        """Where a VAD model hears speech."""
        return [Span(start, end) for start, end in self.generate(audio).get("value", ())]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """FunASR prints and warns; neither is ours to repair."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
