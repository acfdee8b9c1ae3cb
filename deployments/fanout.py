"""One request's segments over the pools: take orders, send audio, report, survive failures.

The dispatcher decides what goes where; this loop carries it out. First answer counts, a second
one for the same segment is dropped. If the dispatcher restarts it has forgotten the request, and
what is neither answered nor under way is submitted to it again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

import numpy as np

from deployments.calls import Calls, ReplicaDied
from deployments.core.errors import AsrError, TimedOut
from deployments.core.scheduling import GiveUp, Order
from deployments.core.segments import Answer, segment_audio
from deployments.core.types import Audio, ChunkResult, Hints, Recognition, Segment

logger = logging.getLogger("ray.serve")

LOST = "The replicas that were to recognise this segment died or timed out."


async def fan_out(
    request: str, segments: Sequence[Segment], audio: Audio, hints: Hints, calls: Calls
) -> AsyncGenerator[dict[int, Answer]]:
    """Answers by segment index, in the order they come; every segment exactly once.

    Raises Overloaded if the dispatcher refuses the request. Closing the generator, or cancelling
    its task, cancels every call under way and frees the dispatcher's places.
    """
    missing = {segment.index: segment for segment in segments}
    if not missing:
        return
    under_way: dict[asyncio.Task[ChunkResult], Order] = {}
    await calls.submit(request, {i: s.n_ms for i, s in missing.items()}, again=False)
    reports: set[asyncio.Task[None]] = set()
    polling = asyncio.create_task(calls.orders(request))
    try:
        while missing:
            done, _ = await asyncio.wait({polling, *under_way}, return_when="FIRST_COMPLETED")
            found: dict[int, Answer] = {}
            forgotten = False
            for task in [t for t in under_way if t in done]:
                order = under_way.pop(task)
                result = _result(task)
                if result is None:
                    forgotten |= not await calls.died(order.order)
                    continue
                found |= _answers(order, result)
                # In the background: a slow dispatcher keeps no answer from its reader.
                reports.add(asyncio.create_task(_report(order, result, calls)))
            if polling in done:
                orders = polling.result()
                forgotten |= orders is None
                for order_or_loss in orders or ():
                    if isinstance(order_or_loss, GiveUp):
                        lost = Answer(Recognition("", error=LOST))
                        found |= dict.fromkeys(order_or_loss.segments, lost)
                    else:
                        chunk = [segments[i] for i in order_or_loss.segments]
                        task = asyncio.create_task(_send(order_or_loss, chunk, audio, hints, calls))
                        under_way[task] = order_or_loss
                polling = asyncio.create_task(calls.orders(request))
            if forgotten:
                busy = {i for order in under_way.values() for i in order.segments} | found.keys()
                again = {i: s.n_ms for i, s in missing.items() if i not in busy}
                await calls.submit(request, again, again=True)
            fresh = {i: answer for i, answer in found.items() if missing.pop(i, None) is not None}
            if fresh:
                yield fresh
    finally:
        for pending in (polling, *under_way, *reports):
            pending.cancel()
        await asyncio.shield(asyncio.ensure_future(_leave(request, calls)))


async def in_background(
    source: AsyncGenerator[dict[int, Answer]],
) -> AsyncGenerator[dict[int, Answer]]:
    """The same answers, taken as they come, so that a slow reader never keeps a pool idle.

    What came while the reader was busy arrives as one. Closing this closes the source.
    """
    queue: asyncio.Queue[dict[int, Answer] | None] = asyncio.Queue()

    async def pump() -> None:
        try:
            async with aclosing(source):
                async for answers in source:
                    queue.put_nowait(answers)
        finally:
            queue.put_nowait(None)

    pumping = asyncio.create_task(pump())
    finished = False
    try:
        while not finished:
            came = [await queue.get()]
            while not queue.empty():
                came.append(queue.get_nowait())
            finished = None in came
            answers = {i: answer for some in came if some for i, answer in some.items()}
            if answers:
                yield answers
        await pumping
    finally:
        pumping.cancel()
        await asyncio.gather(pumping, return_exceptions=True)


async def _send(
    order: Order, chunk: Sequence[Segment], audio: Audio, hints: Hints, calls: Calls
) -> ChunkResult:
    """The chunk's own samples by value, never the whole recording (DESIGN 8)."""
    pieces = [segment_audio(audio, segment) for segment in chunk]
    lengths = [len(piece) for piece in pieces]
    return await calls.recognise(order.pool, np.concatenate(pieces), lengths, hints)


def _result(task: asyncio.Task[ChunkResult]) -> ChunkResult | None:
    """The chunk's result; None if it was lost and may be tried elsewhere."""
    error = task.exception()
    if error is None:
        return task.result()
    if not isinstance(error, ReplicaDied | TimedOut):
        logger.error("A chunk failed in an unexpected way.", exc_info=error)
    return None


def _answers(order: Order, result: ChunkResult) -> dict[int, Answer]:
    return {
        index: Answer(
            recognition=recognition,
            pool=order.pool,
            replica=result.replica,
            engine=result.engine,
            busy_ms=result.busy_ms / len(result.recognitions),
            attempts=order.attempt,
        )
        for index, recognition in zip(order.segments, result.recognitions, strict=True)
    }


async def _report(order: Order, result: ChunkResult, calls: Calls) -> None:
    """Tells the dispatcher; an answer that is there is not lost because this fails."""
    try:
        await calls.finished(order.order, result.padded_ms, result.busy_ms)
    except AsrError as error:
        logger.warning("The dispatcher did not take a report: %s", error)


async def _leave(request: str, calls: Calls) -> None:
    try:
        await calls.cancel(request)
    except AsrError as error:
        logger.warning("The dispatcher did not hear that a request is over: %s", error)
