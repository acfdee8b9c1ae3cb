"""One timeout for a whole stream of items."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TypeVar

from deployments.core.errors import TimedOut

T = TypeVar("T")


async def within(limit_s: float, source: AsyncGenerator[T]) -> AsyncGenerator[T]:
    """The items of the source. Raises TimedOut `limit_s` after the first item was asked for.

    Each item is awaited with the time that is left, because the stream may be read from several
    tasks in turn (Starlette does so). Closing this closes the source.
    """
    deadline_s = time.monotonic() + limit_s
    async with aclosing(source):
        while True:
            try:
                item = await asyncio.wait_for(anext(source), deadline_s - time.monotonic())
            except StopAsyncIteration:
                return
            except TimeoutError:
                raise TimedOut("request", limit_s) from None
            yield item
