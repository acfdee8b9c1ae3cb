"""Reads the answers of a request ahead of the one who writes its text."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from deployments.core.segments import Answer


async def in_background(
    source: AsyncGenerator[dict[int, Answer]],
) -> AsyncGenerator[tuple[dict[int, Answer], bool]]:
    """The same answers, read from the source at once, so that a slow reader keeps no pool idle.

    Answers that came while the reader was busy are joined. The second of the pair tells which are
    the last. In the queue, {} is the sign of the end. `fan_out` yields it after its last answers,
    and one is put here too when the source has ended or has raised. What the source raises is
    raised here, after the answers that came before. Closing this closes the source, or waits for
    it where it has told all its answers.
    """
    queue: asyncio.Queue[dict[int, Answer]] = asyncio.Queue()

    async def pump() -> None:
        async with aclosing(source):
            async for answers in source:
                queue.put_nowait(answers)

    pumping = asyncio.create_task(pump())
    pumping.add_done_callback(lambda _: queue.put_nowait({}))  # also when the source raises
    are_last = False
    try:
        while not are_last:
            came = [await queue.get()]
            while not queue.empty():
                came.append(queue.get_nowait())
            are_last = {} in came
            failed = pumping.done() and pumping.exception() is not None
            answers = {i: answer for some in came for i, answer in some.items()}
            if answers or not (are_last and failed):  # a refused request has no item
                yield answers, are_last and not failed
        await pumping
    finally:
        if not are_last:
            pumping.cancel()
        await asyncio.gather(pumping, return_exceptions=True)
