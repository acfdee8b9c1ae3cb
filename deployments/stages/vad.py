"""The VAD deployment: finds the speech in a recording and yields it while the recording is read."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from typing import Any

from deployments.config import Models
from deployments.core.owner import Owner, or_each_alone
from deployments.core.types import Audio, Span
from deployments.engines.families import engine_class
from deployments.engines.protocols import EngineSettings, Scan, VadEngine
from deployments.weights.store import ensure

MAX_TOGETHER = 8  # recordings in one step
SPANS_EVERY_S = 0.1  # spans are joined for this time, as each piece costs Serve a millisecond
NEWS_EVERY_S = 1.0  # at the latest, so that callers can tell silence from a hung replica


class Vad:
    """`detect(audio)` as a stream of spans. Several recordings are read at a time, in steps.

    A step reads some seconds of each recording on the owner thread of the replica. So a short
    recording does not wait for a long one. A scan whose caller has gone ends with its current step.
    """

    def __init__(self, models: Models, settings: EngineSettings) -> None:
        weights = ensure(models.vad, cache_dir=models.cache_dir, offline=models.offline)
        self._owner = Owner[VadEngine, Any, list[Span]](
            lambda: engine_class(weights.family)(weights.path, settings),
            or_each_alone(lambda engine, scans: engine.advance(scans)),
            lambda engine, taken, scan: len(taken) < MAX_TOGETHER,
        )

    async def detect(self, audio: Audio) -> AsyncGenerator[list[Span]]:
        """Final spans in time order, in all the engine's `detect`; a piece may be empty."""
        scan: Scan = self._owner.model.scan(audio)
        found: list[Span] = []
        told_s = time.monotonic() - SPANS_EVERY_S
        while not scan.finished:
            found += await self._owner.submit(scan)
            now_s = time.monotonic()
            if now_s - told_s >= (SPANS_EVERY_S if found else NEWS_EVERY_S):
                yield found
                found, told_s = [], now_s
        yield found  # also of silence: gRPC may lose what it says first of a stream without items
