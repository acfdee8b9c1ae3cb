"""The VAD deployment: where speech is in a recording."""

from __future__ import annotations

from collections.abc import Sequence

from deployments.config import Models
from deployments.core.owner import Owner
from deployments.core.types import Audio, Span
from deployments.engines.protocols import EngineSettings, VadEngine, engine_class
from deployments.weights.store import ensure


class Vad:
    """`detect(audio) -> spans`, one recording at a time on the replica's owner thread."""

    def __init__(self, models: Models, settings: EngineSettings) -> None:
        weights = ensure(models.vad, cache_dir=models.cache_dir, offline=models.offline)
        self._owner = Owner[VadEngine, Audio, list[Span]](
            lambda: engine_class(weights.family)(weights.path, settings), _detect_each
        )

    async def detect(self, audio: Audio) -> list[Span]:
        return await self._owner.submit(audio)


def _detect_each(engine: VadEngine, recordings: Sequence[Audio]) -> list[list[Span]]:
    return [engine.detect(audio) for audio in recordings]
