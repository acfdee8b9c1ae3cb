"""Sends the segments of one request over the pools, as the dispatcher orders, and takes answers.

The dispatcher decides which replica gets which segments, and this loop carries its orders out.
More segments may come while the first are recognised. The first answer to a segment counts, and a
second one is dropped. A dispatcher that restarts has forgotten the request. The segments that are
neither answered nor in flight are then submitted again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Mapping, Sequence, Set
from contextlib import suppress
from typing import Any

from deployments.core.errors import AsrError
from deployments.core.scheduler.events import Finished, GiveUp, Lost, Order
from deployments.core.segments import LOST, Answer
from deployments.core.types import (
    SAMPLES_PER_MS,
    Audio,
    ChunkResult,
    Hints,
    Recognition,
    Segment,
)
from deployments.request.calls import Calls
from deployments.request.orders import answers, first_ones_first, report, result_of, send

logger = logging.getLogger("ray.serve")

REPORTS_TIMEOUT_S = 2.0
# While every segment is under way, few orders can come: copies of late chunks, and segments anew
# whose replica died, if another request reports the death first.
QUIET_S = 0.2
CLEANING: set[asyncio.Task[None]] = set()  # keeps tasks alive, which the event loop does not


async def fan_out(
    request: str,
    source: AsyncGenerator[list[Segment]],
    audio: Audio,
    hints: Hints,
    calls: Calls,
    *,
    known: Mapping[int, Answer] | None = None,
    background: bool = False,
) -> AsyncGenerator[dict[int, Answer]]:
    """Answers by segment index, as they come. Every segment of `source` is answered exactly once.

    Segments whose answers are `known` are answered with those, and are not recognised again.
    A request in the `background` goes behind all others, and is not refused.

    No answers, {}, are the last item. What this does after them no answer has to wait for.

    Segments are submitted as the source yields them, in the order of their indices from 0. With
    the first of them the dispatcher accepts or refuses the request. Raises Overloaded if it
    refuses, and whatever the source raises. Closing the generator, or cancelling its task, closes
    the source, cancels every call in flight and ends the request at the dispatcher.
    """
    work = _Work(request, audio, hints, calls, known or {}, background)
    reading: asyncio.Task[list[Segment] | None] | None = asyncio.create_task(_next(source))
    try:
        while reading or work.missing:
            waits_for = {task for task in (reading, work.polling, *work.under_way) if task}
            done, _ = await asyncio.wait(waits_for, return_when="FIRST_COMPLETED")
            found = await work.take_results(done)
            work.take_orders(done)
            if reading in done:
                segments = reading.result()
                reading = None if segments is None else asyncio.create_task(_next(source))
                found |= await work.take_segments(segments)
            if work.forgotten:
                await work.submit_again(found)
            found = work.send() | found  # an answer counts more than a loss
            fresh = work.first_answers(found)
            if reading or work.missing:
                work.report()
                work.ask_for_orders()
            if fresh:
                yield fresh
        yield {}
    finally:
        # A task of its own: a second cancellation (a timeout, then the client) ends the waiting
        # for the cleaning and not the cleaning itself. Serve then cancels the calls that the
        # request has in flight. If one of them was to tell the dispatcher of the end, the
        # dispatcher forgets the request by itself (dispatcher.FORGET_AFTER_S).
        cleaning = asyncio.create_task(_clean_up(work, reading, source))
        CLEANING.add(cleaning)
        cleaning.add_done_callback(CLEANING.discard)
        await asyncio.shield(cleaning)


class _Work:
    """The state of `fan_out` for one request: missing segments, and calls in flight."""

    def __init__(
        self,
        request: str,
        audio: Audio,
        hints: Hints,
        calls: Calls,
        known: Mapping[int, Answer],
        background: bool,
    ) -> None:
        self._request, self._audio, self._hints, self._calls = request, audio, hints, calls
        self._known, self._background = known, background
        self._segments: list[Segment] = []
        self._coming_ms = 0  # the most audio that the source may still yield
        self._told_coming_ms = 0  # what the dispatcher knows of it
        self._ordered: list[Order | GiveUp] = []  # not sent yet
        self._finished: list[Finished] = []  # not told yet
        self._urgent = asyncio.Event()  # some segment is neither answered nor under way
        self.reports: set[asyncio.Task[None]] = set()
        self.missing: dict[int, Segment] = {}
        self.under_way: dict[asyncio.Task[ChunkResult], Order] = {}
        self.polling: asyncio.Task[list[Order | GiveUp] | None] | None = None
        self.submitted = False
        self.forgotten = False  # by the dispatcher, since the last `submit_again`

    async def take_segments(self, segments: Sequence[Segment] | None) -> dict[int, Answer]:
        """Submits the segments that the source yielded. None means that the source has ended.

        Returns the answers that are known already.
        """
        if not segments:
            self._coming_ms = self._coming_ms if segments is not None else 0
            return {}
        self._segments += segments
        self.missing |= {segment.index: segment for segment in segments}
        self._coming_ms = len(self._audio) // SAMPLES_PER_MS - segments[-1].end_ms
        found = {s.index: self._known[s.index] for s in segments if s.index in self._known}
        if unknown := {s.index: s.n_ms for s in segments if s.index not in found}:
            await self._submit(unknown)
        return found

    async def take_results(self, done: Set[asyncio.Task[Any]]) -> dict[int, Answer]:
        """The answers of the chunks that are done. Tells the dispatcher which were lost."""
        found: dict[int, Answer] = {}
        for task in [task for task in self.under_way if task in done]:
            order = self.under_way.pop(task)
            result = result_of(task, order)
            if isinstance(result, Lost):
                self.forgotten |= not await self._calls.lost(result)
                continue
            found |= answers(order, result)
            self._finished.append(report(order, result))
        return found

    def take_orders(self, done: Set[asyncio.Task[Any]]) -> None:
        """Takes what the dispatcher answered, if it has."""
        if self.polling is not None and self.polling in done:
            orders = self.polling.result()
            self.polling = None
            self.forgotten |= orders is None
            self._ordered += orders or ()

    def send(self) -> dict[int, Answer]:
        """Sends the ordered chunks. Returns the segments that were given up, as failed."""
        found: dict[int, Answer] = {}
        ordered, self._ordered = first_ones_first(self._ordered), []
        for order in ordered:
            if isinstance(order, GiveUp):
                lost = Answer(Recognition("", error=LOST))
                found |= dict.fromkeys(order.segments, lost)
            else:
                chunk = [self._segments[i] for i in order.segments]
                sending = send(order, chunk, self._audio, self._hints, self._calls)
                self.under_way[asyncio.create_task(sending)] = order
        return found

    def report(self) -> None:
        """Tells the dispatcher which chunks are done. `leave` tells the last ones.

        In the background, so that a slow dispatcher does not delay an answer.
        """
        finished, self._finished = self._finished, []
        for one in finished:
            telling = asyncio.create_task(_tell(one, self._calls))
            self.reports.add(telling)
            telling.add_done_callback(self.reports.discard)

    def ask_for_orders(self) -> None:
        """Keeps one call for orders open, by which the dispatcher also sees that we live."""
        sent = {i for order in self.under_way.values() for i in order.segments}
        if self.missing.keys() <= sent:
            self._urgent.clear()
        else:
            self._urgent.set()
        if self.submitted and self.polling is None:
            self.polling = asyncio.create_task(self._next_orders())

    async def submit_again(self, found: Mapping[int, Answer]) -> None:
        """Submits the segments that are neither answered nor in flight."""
        self.forgotten = False
        orders = [*self.under_way.values(), *self._ordered]
        busy = {i for order in orders for i in order.segments} | found.keys()
        await self._submit({i: s.n_ms for i, s in self.missing.items() if i not in busy})
        self.forgotten = False  # all that was forgotten has now been submitted

    def first_answers(self, found: Mapping[int, Answer]) -> dict[int, Answer]:
        """The answers to segments that had no answer before."""
        return {i: a for i, a in found.items() if self.missing.pop(i, None) is not None}

    def stop(self) -> None:
        """Cancels the calls in flight. Reports on finished chunks still go out."""
        for task in (self.polling, *self.under_way):
            if task:
                task.cancel()

    async def leave(self) -> None:
        """Ends the request at the dispatcher, after the last reports have gone out."""
        if self.reports:  # Serve cancels calls in flight with the request that made them
            await asyncio.wait(self.reports, timeout=REPORTS_TIMEOUT_S)
        try:
            await self._calls.cancel(self._request, self._finished)
        except AsrError as error:
            logger.warning("The dispatcher did not hear that a request is over: %s", error)

    async def _next_orders(self) -> list[Order | GiveUp] | None:
        """New orders. Asks at once only if a segment waits for one.

        A short request is over before the pause ends, and has saved two calls.
        """
        with suppress(TimeoutError):
            await asyncio.wait_for(self._urgent.wait(), QUIET_S)
        if self._told_coming_ms != self._coming_ms:
            await self._submit({})
        if self._ordered or self.forgotten:  # either is dealt with at once
            return []
        return await self._calls.orders(self._request)

    async def _submit(self, lengths_ms: Mapping[int, int]) -> None:
        again, self.submitted = self.submitted, True
        self._told_coming_ms = self._coming_ms
        known, ordered = await self._calls.submit(
            self._request,
            lengths_ms,
            again=again,
            coming_ms=self._coming_ms,
            background=self._background,
        )
        self._ordered += ordered
        self.forgotten |= again and not known


async def _clean_up(
    work: _Work,
    reading: asyncio.Task[list[Segment] | None] | None,
    source: AsyncGenerator[list[Segment]],
) -> None:
    """Cancels the calls in flight and ends the request at the dispatcher."""
    work.stop()
    if reading:
        reading.cancel()
        await asyncio.wait({reading})
    await source.aclose()
    if work.submitted:
        await work.leave()


async def _next(source: AsyncGenerator[list[Segment]]) -> list[Segment] | None:
    """The next item of the source, or None at its end."""
    return await anext(source, None)


async def _tell(report: Finished, calls: Calls) -> None:
    """Tells the dispatcher that a chunk is done. A failure here does not lose the answer."""
    try:
        await calls.finished(report)
    except AsrError as error:
        logger.warning("The dispatcher did not take a report: %s", error)
