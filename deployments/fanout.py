"""One request's segments over the pools: take orders, send audio, report, survive failures.

Segments may still come while the first are recognised. The dispatcher decides what goes where;
this loop carries it out. First answer counts, a second one for the same segment is dropped. If
the dispatcher restarts it has forgotten the request, and what is neither answered nor under way is
submitted to it again.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncGenerator, Mapping, Sequence, Set
from contextlib import aclosing
from typing import Any

import numpy as np

from deployments.calls import Calls, ReplicaDied
from deployments.core.errors import AsrError, TimedOut
from deployments.core.events import Finished, GiveUp, Lost, Order
from deployments.core.segments import LOST, Answer, segment_audio
from deployments.core.types import (
    SAMPLES_PER_MS,
    Audio,
    ChunkResult,
    Hints,
    Recognition,
    Segment,
)

logger = logging.getLogger("ray.serve")

REPORTS_TIMEOUT_S = 2.0
CLEANING: set[asyncio.Task[None]] = set()  # the event loop itself keeps no task alive


async def fan_out(
    request: str,
    source: AsyncGenerator[list[Segment]],
    audio: Audio,
    hints: Hints,
    calls: Calls,
) -> AsyncGenerator[dict[int, Answer]]:
    """Answers by segment index, in the order they come; every segment of `source` exactly once.

    Segments are submitted as the source gives them, in the order of their indices from 0; the
    first of them decide whether the request is taken. Raises Overloaded if the dispatcher refuses
    it, and what the source raises. Closing the generator, or cancelling its task, closes the
    source, cancels every call under way and frees the dispatcher's places.
    """
    work = _Work(request, audio, hints, calls)
    reading: asyncio.Task[list[Segment] | None] | None = asyncio.create_task(_next(source))
    try:
        while reading or work.missing:
            waits_for = {task for task in (reading, work.polling, *work.under_way) if task}
            done, _ = await asyncio.wait(waits_for, return_when="FIRST_COMPLETED")
            found = await work.take_results(done)
            found = await work.take_orders(done) | found  # an answer counts more than a loss
            if reading in done:
                segments = reading.result()
                reading = None if segments is None else asyncio.create_task(_next(source))
                await work.take_segments(segments)
            if work.forgotten:
                await work.submit_again(found)
            fresh = work.first_answers(found)
            if fresh:
                yield fresh
    finally:
        # A task of its own: whoever cancels twice (a time-out here, the client there) ends the
        # waiting for it and nothing else.
        cleaning = asyncio.create_task(_clean_up(work, reading, source))
        CLEANING.add(cleaning)
        cleaning.add_done_callback(CLEANING.discard)
        await asyncio.shield(cleaning)


class _Work:
    """What `fan_out` has under way for one request."""

    def __init__(self, request: str, audio: Audio, hints: Hints, calls: Calls) -> None:
        self._request, self._audio, self._hints, self._calls = request, audio, hints, calls
        self._segments: list[Segment] = []
        self._coming_ms = 0  # the most that the source may still give
        self.reports: set[asyncio.Task[None]] = set()
        self.missing: dict[int, Segment] = {}
        self.under_way: dict[asyncio.Task[ChunkResult], Order] = {}
        self.polling: asyncio.Task[list[Order | GiveUp] | None] | None = None
        self.submitted = False
        self.forgotten = False  # by the dispatcher, since the last `submit_again`

    async def take_segments(self, segments: Sequence[Segment] | None) -> None:
        """Submits what the source gave; None is its end."""
        if segments is None:
            self._coming_ms = 0
        elif segments:
            self._segments += segments
            self.missing |= {segment.index: segment for segment in segments}
            self._coming_ms = len(self._audio) // SAMPLES_PER_MS - segments[-1].end_ms
        if segments or (segments is None and self.missing):
            await self._submit({s.index: s.n_ms for s in segments or ()})
            self.polling = self.polling or asyncio.create_task(self._calls.orders(self._request))

    async def take_results(self, done: Set[asyncio.Task[Any]]) -> dict[int, Answer]:
        """The answers of the chunks that are done; tells the dispatcher how each went."""
        found: dict[int, Answer] = {}
        for task in [task for task in self.under_way if task in done]:
            order = self.under_way.pop(task)
            result = _result(task, order)
            if isinstance(result, Lost):
                self.forgotten |= not await self._calls.lost(result)
                continue
            found |= _answers(order, result)
            # In the background: a slow dispatcher keeps no answer from its reader.
            self.reports.add(asyncio.create_task(_report(order, result, self._calls)))
        return found

    async def take_orders(self, done: Set[asyncio.Task[Any]]) -> dict[int, Answer]:
        """Sends the chunks that were ordered; gives the segments that were given up."""
        found: dict[int, Answer] = {}
        if self.polling is None or self.polling not in done:
            return found
        orders = self.polling.result()
        self.forgotten |= orders is None
        for order in first_ones_first(orders or ()):
            if isinstance(order, GiveUp):
                lost = Answer(Recognition("", error=LOST))
                found |= dict.fromkeys(order.segments, lost)
            else:
                chunk = [self._segments[i] for i in order.segments]
                sending = _send(order, chunk, self._audio, self._hints, self._calls)
                self.under_way[asyncio.create_task(sending)] = order
        self.polling = asyncio.create_task(self._calls.orders(self._request))
        return found

    async def submit_again(self, found: Mapping[int, Answer]) -> None:
        """Submits what is neither answered nor under way."""
        self.forgotten = False
        busy = {i for order in self.under_way.values() for i in order.segments} | found.keys()
        await self._submit({i: s.n_ms for i, s in self.missing.items() if i not in busy})
        self.forgotten = False  # this was all of it

    def first_answers(self, found: Mapping[int, Answer]) -> dict[int, Answer]:
        """Those to segments that had none."""
        return {i: a for i, a in found.items() if self.missing.pop(i, None) is not None}

    def stop(self) -> None:
        """Cancels what is under way; what is done is still reported."""
        for task in (self.polling, *self.under_way):
            if task:
                task.cancel()

    async def leave(self) -> None:
        """Ends the request at the dispatcher, after it has heard how the last chunks went."""
        if self.reports:  # Serve cancels calls under way with the request that made them
            await asyncio.wait(self.reports, timeout=REPORTS_TIMEOUT_S)
        try:
            await self._calls.cancel(self._request)
        except AsrError as error:
            logger.warning("The dispatcher did not hear that a request is over: %s", error)

    async def _submit(self, lengths_ms: Mapping[int, int]) -> None:
        again, self.submitted = self.submitted, True
        known = await self._calls.submit(
            self._request, lengths_ms, again=again, coming_ms=self._coming_ms
        )
        self.forgotten |= again and not known


def first_ones_first(orders: Sequence[Order | GiveUp]) -> list[Order | GiveUp]:
    """Every replica's first chunk before any second one: copying takes its time."""
    seen: Counter[tuple[str, str]] = Counter()
    ranked: list[tuple[int, Order | GiveUp]] = []
    for order in orders:
        replica = ("", "") if isinstance(order, GiveUp) else (order.pool, order.replica)
        ranked.append((seen[replica], order))
        seen[replica] += 1
    return [order for _, order in sorted(ranked, key=lambda pair: pair[0])]


async def _clean_up(
    work: _Work,
    reading: asyncio.Task[list[Segment] | None] | None,
    source: AsyncGenerator[list[Segment]],
) -> None:
    """Stops what is under way and ends the request at the dispatcher."""
    work.stop()
    if reading:
        reading.cancel()
        await asyncio.wait({reading})
    await source.aclose()
    if work.submitted:
        await work.leave()


async def _next(source: AsyncGenerator[list[Segment]]) -> list[Segment] | None:
    """What the source gives next; None at its end."""
    return await anext(source, None)


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
    return await calls.recognise(order.pool, order.replica, np.concatenate(pieces), lengths, hints)


def _result(task: asyncio.Task[ChunkResult], order: Order) -> ChunkResult | Lost:
    """The chunk's result, or that it was lost and may be tried elsewhere.

    So is a chunk of which no segment could be read, if that is new for any of them: the replica may
    be what is broken.
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


def _answers(order: Order, result: ChunkResult) -> dict[int, Answer]:
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


async def _report(order: Order, result: ChunkResult, calls: Calls) -> None:
    """Tells the dispatcher; an answer that is there is not lost because this fails."""
    try:
        report = Finished(
            order.order,
            padded_ms=result.padded_ms,
            n_batches=result.n_batches,
            busy_ms=result.busy_ms,
            replica=result.replica,
            share=result.share,
            audio_ms=result.audio_ms,
            n_out_of_memory=result.n_out_of_memory,
        )
        await calls.finished(report)
    except AsrError as error:
        logger.warning("The dispatcher did not take a report: %s", error)
