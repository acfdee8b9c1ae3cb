"""Large uploads while they are received: what they cost, and what is left of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from starlette.requests import ClientDisconnect

from deployments.core.errors import UploadTooLarge
from deployments.core.types import StoredUpload
from deployments.request.stored import mapped
from tests.api.senders import LARGE, MIB, PIECE, Sender, form_of, left

pytestmark = pytest.mark.usefixtures("spool")


def own_bytes() -> int:
    """Memory of this process without pages of files."""
    memory = psutil.Process().memory_info()
    return int(memory.rss - memory.shared)


@pytest.mark.parametrize("n_bytes", [100 * MIB, 150 * MIB + 1])
def test_a_large_upload_is_not_held_in_memory(n_bytes: int) -> None:
    before = own_bytes()

    form = asyncio.run(form_of(Sender(n_bytes)))

    with form.recording as recording:
        assert own_bytes() - before < 20 * MIB
        assert len(recording.data) == n_bytes
        assert recording.data[-1] == PIECE[n_bytes % len(PIECE) - 1]
        assert own_bytes() - before < 20 * MIB


@pytest.mark.parametrize(
    ("n_bytes", "is_stored"), [(1, False), (MIB, False), (MIB + 1, True), (LARGE, True)]
)
def test_over_a_megabyte_the_router_gets_the_place_of_the_file(
    n_bytes: int, is_stored: bool
) -> None:
    form = asyncio.run(form_of(Sender(n_bytes)))

    with form.recording as recording:
        expected = (PIECE * (n_bytes // len(PIECE) + 1))[:n_bytes]
        assert isinstance(recording.sent, StoredUpload) == is_stored
        assert mapped(recording.sent).tobytes() == expected
        assert recording.data.tobytes() == expected


@pytest.mark.parametrize("max_upload_mb", [2, 0.5])
def test_an_upload_over_the_limit_is_not_read_any_further(
    spool: Path, max_upload_mb: float
) -> None:
    sender = Sender(100 * MIB)

    with pytest.raises(UploadTooLarge):
        asyncio.run(form_of(sender, max_upload_mb=max_upload_mb))

    assert sender.n_bytes < (max_upload_mb + 1) * 1_000_000 + 2 * len(PIECE)
    assert left(spool) == []


class Breaks(Sender):
    """A client that leaves, or is too slow, in the middle of its upload."""

    def __init__(self, end: Callable[[], Awaitable[dict[str, Any]]]) -> None:
        super().__init__(2 * LARGE)
        self._end = end

    async def __call__(self) -> dict[str, Any]:
        return await (self._end() if self.n_bytes > LARGE else super().__call__())


async def leaves() -> dict[str, Any]:
    return {"type": "http.disconnect"}


async def lags() -> dict[str, Any]:
    await asyncio.Event().wait()
    return {}


async def is_cancelled() -> dict[str, Any]:
    raise asyncio.CancelledError


@pytest.mark.parametrize("end", [leaves, lags, is_cancelled])
def test_no_file_is_left_of_an_upload_that_breaks_off(
    spool: Path, end: Callable[[], Awaitable[dict[str, Any]]]
) -> None:
    with pytest.raises((ClientDisconnect, TimeoutError, asyncio.CancelledError)):
        asyncio.run(asyncio.wait_for(form_of(Breaks(end)), 0.3))

    assert left(spool) == []
