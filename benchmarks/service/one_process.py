"""VAD, ASR and punctuation in one process, one after another, to compare the service with.

The engine classes, the budget and the packing (`ChunkRunner`) are those of the service's replicas,
and so are the pure functions between them. There is no Ray, no HTTP and no scheduler.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from deployments.config import Models
from deployments.core.chunks import Chunk, ChunkRunner
from deployments.core.punctuating import GrowingDocument
from deployments.core.segments import Answer, merge, plan_segments, segment_audio
from deployments.core.text import join_texts, join_words
from deployments.core.types import Audio, Hints, TranscriptSegment
from deployments.engines.families import engine_class
from deployments.engines.protocols import AsrEngine, EngineSettings, PunctuationEngine, VadEngine
from deployments.weights.store import ensure


@dataclass(frozen=True, slots=True)
class Heard:
    """The transcript of a recording."""

    text: str
    segments: tuple[TranscriptSegment, ...]
    padded_ms: int  # of audio that the ASR engine read, padding included


class OneProcess:
    """The three engines, loaded once."""

    def __init__(
        self, models: Models, *, num_threads: int, batch_audio_s: float, dtype: str = "fp32"
    ) -> None:
        """Raises ModelUnavailable."""
        self._vad: VadEngine = load(models, models.vad, num_threads=num_threads)
        self._asr: AsrEngine = load(models, models.asr, num_threads=num_threads, dtype=dtype)
        self._punctuation: PunctuationEngine | None = None
        if models.punctuation is not None and not self._asr.info.punctuates:
            self._punctuation = load(models, models.punctuation, num_threads=num_threads)
        self._budget_ms = round(batch_audio_s * 1000)
        torch.set_num_threads(num_threads)

    def transcribe(self, audio: Audio) -> Heard:
        """Transcribes a recording; each stage begins when the one before is done."""
        spans = self._vad.detect(audio)
        segments = plan_segments(spans, audio, max_segment_ms=self._asr.info.max_segment_ms)
        runner = ChunkRunner(self._asr.transcribe, engine=self._asr.info.name, replica="")
        runner.budget_ms = self._budget_ms
        if not segments:
            return Heard("", (), 0)
        pieces = [segment_audio(audio, segment) for segment in segments]
        chunk = Chunk(
            np.concatenate(pieces), lengths=tuple(len(piece) for piece in pieces), hints=Hints()
        )
        [result] = runner.run([chunk])
        answers = {
            segment.index: Answer(recognition)
            for segment, recognition in zip(segments, result.recognitions, strict=True)
        }
        merged = tuple(merge(segments, answers))
        return Heard(self._text(merged), merged, result.padded_ms)

    def _text(self, segments: tuple[TranscriptSegment, ...]) -> str:
        if self._punctuation is None:
            return join_texts(segment.text for segment in segments)
        document = GrowingDocument()
        words = [word for segment in segments for word in segment.words]
        [step] = self._punctuation.punctuate([document.task(words, final=True)])
        return join_words(document.absorb(step))


def load(models: Models, ref: str, *, num_threads: int, dtype: str = "fp32") -> Any:
    """A model's engine on the CPU, with the weights that the service would take."""
    weights = ensure(ref, cache_dir=models.cache_dir, offline=models.offline)
    settings = EngineSettings(name=weights.name, dtype=dtype, num_threads=num_threads)
    return engine_class(weights.family)(weights.path, settings)
