"""Recordings of jobs that lie in buckets: what is read, and what is told where it cannot be."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from benchmarks.material.marked import marked_folder
from deployments.config import Limits
from deployments.core.errors import (
    AsrError,
    FetchFailed,
    InvalidAudio,
    StorageFailed,
    TimedOut,
    UploadTooLarge,
)
from deployments.jobs.sources import Sources
from deployments.objects import Objects
from deployments.service_settings import Fetch

URL = "s3://calls/2026/monday.wav"


class _Closed:
    """The objects of a bucket that may not be read."""

    async def size(self, key: str) -> int:
        raise StorageFailed(30.0)


class _Slow:
    async def size(self, key: str) -> int:
        await asyncio.Event().wait()
        return 0


@pytest.fixture
def bucket(tmp_path: Path) -> Objects:
    objects = marked_folder(tmp_path)
    asyncio.run(objects.put("2026/monday.wav", b"sound"))
    asyncio.run(objects.put("empty.wav", b""))
    return objects


def fetched(objects: Any, url: str = URL, *, limits: Limits | None = None) -> bytes:
    settings = Fetch(buckets=("s3://calls",), timeout_s=0.5)
    sources = Sources(settings, limits or Limits(), {"s3://calls": objects})
    with asyncio.run(sources(url)) as file:
        file.seek(0)
        return file.read()


def test_the_object_is_read(bucket: Objects) -> None:
    assert fetched(bucket) == b"sound"


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("s3://calls/none.wav", FetchFailed),
        ("s3://calls/empty.wav", InvalidAudio),
        ("https://example.com/a.wav", FetchFailed),  # the setting is off by now
    ],
)
def test_what_cannot_be_a_recording_is_told(
    bucket: Objects, url: str, error: type[AsrError]
) -> None:
    with pytest.raises(error):
        fetched(bucket, url)


def test_a_recording_over_the_limit_is_not_read(bucket: Objects) -> None:
    with pytest.raises(UploadTooLarge):
        fetched(bucket, limits=Limits(max_upload_mb=0.000_001))


def test_a_bucket_that_may_not_be_read_fails_the_fetch_and_not_our_storage() -> None:
    with pytest.raises(FetchFailed, match="cannot be read"):
        fetched(_Closed())


def test_a_bucket_that_hangs_is_left() -> None:
    with pytest.raises(TimedOut):
        fetched(_Slow())
