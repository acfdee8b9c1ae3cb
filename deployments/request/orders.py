"""What becomes of one order: the call that carries it out, its answers and its report."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence

import numpy as np

from deployments.core.errors import TimedOut
from deployments.core.scheduler.events import Finished, GiveUp, Lost, Order
from deployments.core.segments import Answer, segment_audio
from deployments.core.types import Audio, ChunkResult, Hints, Segment
from deployments.request.calls import Calls, ReplicaDied

logger = logging.getLogger("ray.serve")


def first_ones_first(orders: Sequence[Order | GiveUp]) -> list[Order | GiveUp]:
    """The first chunk of every replica before any second one, because copying takes time."""
    seen: Counter[tuple[str, str]] = Counter()
    ranked: list[tuple[int, Order | GiveUp]] = []
    for order in orders:
        replica = ("", "") if isinstance(order, GiveUp) else (order.pool, order.replica)
        ranked.append((seen[replica], order))
        seen[replica] += 1
    return [order for _, order in sorted(ranked, key=lambda pair: pair[0])]


async def send(
    order: Order, chunk: Sequence[Segment], audio: Audio, hints: Hints, calls: Calls
) -> ChunkResult:
    """Sends the samples of the chunk by value, never the whole recording (DESIGN, Audio)."""
    pieces = [segment_audio(audio, segment) for segment in chunk]
    lengths = [len(piece) for piece in pieces]
    return await calls.recognise(order.pool, order.replica, np.concatenate(pieces), lengths, hints)


def result_of(task: asyncio.Task[ChunkResult], order: Order) -> ChunkResult | Lost:
    """The result of the chunk, or that the chunk was lost and may be tried elsewhere.

    A chunk whose segments all failed counts as lost if it was the first attempt for any of them,
    because the replica may be broken.
    """
    if task.cancelled():  # by Serve, not by this loop
        return Lost(order.order, replica_lives=True)
    error = task.exception()
    if error is None:
        result = task.result()
        none_read = all(recognition.error for recognition in result.recognitions)
        again = none_read and 1 in order.attempts
        return Lost(order.order, result.replica, replica_lives=True) if again else result
    if isinstance(error, ReplicaDied):
        return Lost(order.order, replica=error.replica)
    if isinstance(error, TimedOut):
        return Lost(order.order)
    logger.error("A chunk failed in an unexpected way.", exc_info=error)
    return Lost(order.order, replica_lives=True)


def answers(order: Order, result: ChunkResult) -> dict[int, Answer]:
    """The answers of a chunk by segment index, with where and how each was recognised."""
    return {
        index: Answer(
            recognition=recognition,
            pool=order.pool,
            replica=result.replica,
            engine=result.engine,
            busy_ms=result.busy_ms / len(result.recognitions),
            attempts=n_attempts,
        )
        for index, n_attempts, recognition in zip(
            order.segments, order.attempts, result.recognitions, strict=True
        )
    }


def report(order: Order, result: ChunkResult) -> Finished:
    """What the dispatcher learns of an answered chunk."""
    return Finished(
        order.order,
        padded_ms=result.padded_ms,
        n_batches=result.n_batches,
        busy_ms=result.busy_ms,
        replica=result.replica,
        share=result.share,
        audio_ms=result.audio_ms,
        n_out_of_memory=result.n_out_of_memory,
    )
