"""One timeout for a whole stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from deployments.core.errors import TimedOut
from deployments.request.deadline import within


class Source:
    """Numbers with pauses. `closed` says whether the stream was closed."""

    def __init__(self, pause_s: float, count: int) -> None:
        self._pause_s, self._count = pause_s, count
        self.closed = False

    async def run(self) -> AsyncGenerator[int]:
        try:
            for i in range(self._count):
                await asyncio.sleep(self._pause_s)
                yield i
        finally:
            self.closed = True


async def read(limit_s: float, source: Source) -> list[int]:
    return [i async for i in within(limit_s, source.run())]


def test_a_stream_in_time_is_whole() -> None:
    assert asyncio.run(read(10.0, Source(0.0, 5))) == [0, 1, 2, 3, 4]


def test_the_timeout_is_for_all_items_together() -> None:
    source = Source(0.05, 1000)

    with pytest.raises(TimedOut) as caught:
        asyncio.run(read(0.2, source))

    assert (caught.value.stage, caught.value.limit_s) == ("request", 0.2)
    assert source.closed


def test_leaving_early_closes_the_source() -> None:
    source = Source(0.0, 5)

    async def leave() -> None:
        items = within(10.0, source.run())
        await anext(items)
        await items.aclose()

    asyncio.run(leave())

    assert source.closed
