"""A replica of an ASR pool: loads the engine and runs chunks on its owner thread.

Small queued chunks of different requests share a batch, up to the budget.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

import ray
from ray import serve

from cluster.profiles import known_card
from deployments.config import Models
from deployments.core.chunks import Chunk, ChunkRunner
from deployments.core.errors import EngineFailed
from deployments.core.owner import Owner, as_they_are
from deployments.core.types import Audio, ChunkResult, Hints
from deployments.engines.families import engine_class
from deployments.engines.protocols import AsrEngine, CopiesAhead, EngineSettings
from deployments.weights.settings import cache_root
from deployments.weights.store import FAKE_SOURCE, ensure

logger = logging.getLogger("ray.serve")


MAX_FAILURES = 8  # calls in a row with no segment read; then the replica is broken, not the audio


class Tuning(TypedDict):
    """The settings that may change while replicas run, through Serve's `user_config`."""

    batch_audio_s: float
    slack_audio_s: float  # padding that is accepted rather than one more batch


class Asr:
    """`transcribe(samples, lengths, hints) -> ChunkResult`. Ready once the model is loaded."""

    def __init__(self, pool: str, models: Models, settings: EngineSettings) -> None:
        weights = ensure(models.asr, cache_dir=models.cache_dir, offline=models.offline)
        replica = own_name()

        def load() -> ChunkRunner:
            on_gpu = settings.device == "cuda" and weights.source != FAKE_SOURCE
            if on_gpu:
                check_card(settings)
            engine: AsrEngine = engine_class(weights.family)(weights.path, settings)
            memory_ms = held_by_gpu(engine, settings, models.cache_dir) if on_gpu else None
            logger.info("Pool %s runs %s, weights from %s.", pool, engine.info, weights.source)
            return ChunkRunner(
                engine.transcribe,
                engine=engine.info.name,
                replica=replica,
                memory_ms=memory_ms,
                copy_in=engine.copy_in if on_gpu and isinstance(engine, CopiesAhead) else None,
            )

        self._owner = Owner[ChunkRunner, Chunk, ChunkResult](
            load,
            ChunkRunner.run,
            ChunkRunner.fits,
            ChunkRunner.prepare if settings.device == "cuda" else as_they_are,
        )
        self._runner = self._owner.model

    def reconfigure(self, tuning: Tuning) -> None:
        """Serve calls this before the replica is ready, and when `user_config` changes."""
        budget_ms, slack_ms = (round(tuning[k] * 1000) for k in ("batch_audio_s", "slack_audio_s"))
        self._runner.allow(budget_ms, slack_ms=slack_ms)

    def check_health(self) -> None:
        """Raises EngineFailed if no segment can be read.

        Serve asks every 10 s, and replaces a replica that raises three times.
        """
        if self._runner.n_failed_in_a_row >= MAX_FAILURES:
            raise EngineFailed("The engine fails on every segment; the replica must be replaced.")

    async def transcribe(self, samples: Audio, lengths: Sequence[int], hints: Hints) -> ChunkResult:
        """One recognition per segment. `samples` joins the segments; `lengths` counts samples."""
        seen = self._runner.n_out_of_memory
        result = await self._owner.submit(Chunk(samples, tuple(lengths), hints))
        if self._runner.n_out_of_memory > seen:
            logger.warning(
                "Out of memory: batches are now at most %d ms of padded audio.",
                self._runner.budget_ms,
            )
        return result


def own_name() -> str:
    """The actor id, by which Ray's errors name a dead replica and calls reach a living one."""
    actor = ray.get_runtime_context().get_actor_id() if ray.is_initialized() else None
    return actor or serve.get_replica_context().replica_id.unique_id


def check_card(settings: EngineSettings) -> None:
    """Raises ModelUnavailable for half precision on a card that does not gain by it.

    See DESIGN, Half precision.
    """
    from deployments.engines import half  # torch: only a replica that runs a model needs it

    name = half.card_name()
    known = known_card(name)
    half.check(settings, name, tensor_cores=None if known is None else known.tensor_cores)


def held_by_gpu(engine: AsrEngine, settings: EngineSettings, cache_dir: Path | None) -> int | None:
    """Milliseconds of padded audio that the replica's part of the card holds (DESIGN, Memory)."""
    from deployments.engines import calibration

    directory = cache_root(cache_dir) / "calibration"
    held_ms = calibration.cuda_budget_ms(engine, settings, directory)
    if held_ms is not None:
        logger.info("This part of the card holds %d ms of padded audio.", held_ms)
    return held_ms
