"""FunASR's `AutoModel`, which the engines are compared with; reads one item at a time."""

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
from deployments.engines.fsmn_vad.engine import MAX_END_SILENCE_MS, MAX_SEGMENT_MS
from deployments.engines.funasr_models import import_all
from deployments.engines.paraformer.readings import Reading

Floats: TypeAlias = NDArray[np.float32]

FUNASR_THREADS = 4  # FunASR's default

# The limits of the VAD engine. FunASR heeds them only where its constructor is given both.
VAD_LIMITS: dict[str, Any] = {
    "max_end_silence_time": MAX_END_SILENCE_MS,
    "max_single_segment_time": MAX_SEGMENT_MS,
}


def as_funasr(audio: Audio | Floats) -> Floats:
    """The samples as (n_samples,) float32, -1..1. Samples that are float32 stay as they are."""
    if audio.dtype == np.float32:
        return audio.astype(np.float32, copy=False)
    return audio.astype(np.float32) / np.float32(32768)


class AutoModelAlone:
    """An `AutoModel` that is given one item at a time."""

    def __init__(
        self, model_dir: Path, *, device: str = "cpu", n_cpu: int = 1, **options: Any
    ) -> None:
        """Passes `options` to `AutoModel` unchanged."""
        with quiet():
            import_all()
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
        """FunASR's result for audio or a text; empty where FunASR gives none.

        To time this without the conversion of samples, convert them with `as_funasr` beforehand.
        """
        data = item if isinstance(item, str) else as_funasr(item)
        with quiet():
            results = self._model.generate(input=[data], **options)
        return results[0] if results and results[0] else {}

    def read(self, audio: Audio | Floats, **options: Any) -> Reading:
        """The words and times that an ASR model reads in one segment."""
        result = self.generate(audio, **options)
        times = tuple((start, end) for start, end in result.get("timestamp", ()))
        return Reading(tuple(result.get("text", "").split()), times)

    def export(self, out_dir: Path) -> None:
        """Writes the model as ONNX graphs in float32 and, quantised by FunASR, in int8."""
        self._model.export(type="onnx", quantize=True, output_dir=str(out_dir))

    def spans(self, audio: Audio | Floats) -> list[Span]:
        """The spans where a VAD model hears speech."""
        return [Span(start, end) for start, end in self.generate(audio).get("value", ())]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silences what FunASR prints and its warnings, which we cannot repair."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
