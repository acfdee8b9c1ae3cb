"""The punctuation deployment: puts marks behind words, for several requests in one batch."""

from __future__ import annotations

from collections.abc import Sequence

from deployments.config import Models
from deployments.core.owner import Owner, or_each_alone
from deployments.core.types import PunctuationStep, PunctuationTask
from deployments.engines.families import engine_class
from deployments.engines.protocols import EngineSettings, PunctuationEngine
from deployments.weights.store import ensure

MAX_DOCUMENTS = 16  # in one batch; beyond this a forward pass slows as fast as the batch grows


class Punctuation:
    """`punctuate(task) -> step`. Keeps no state between calls: each task has its own carry."""

    def __init__(self, models: Models, settings: EngineSettings) -> None:
        assert models.punctuation is not None
        weights = ensure(models.punctuation, cache_dir=models.cache_dir, offline=models.offline)
        self._owner = Owner[PunctuationEngine, PunctuationTask, PunctuationStep](
            lambda: engine_class(weights.family)(weights.path, settings),
            or_each_alone(lambda engine, tasks: engine.punctuate(tasks)),
            _fits,
        )

    async def punctuate(self, task: PunctuationTask) -> PunctuationStep:
        return await self._owner.submit(task)


def _fits(engine: PunctuationEngine, taken: Sequence[PunctuationTask], task: object) -> bool:
    return len(taken) < MAX_DOCUMENTS
