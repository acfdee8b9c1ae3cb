"""Objects in a folder and in a bucket of S3: whole or not at all, in bounded memory."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, BinaryIO, cast

import psutil
import pytest

from deployments.core.errors import StorageFailed
from deployments.objects import (
    MARKER,
    PIECE_BYTES,
    NoObject,
    Objects,
)
from tests.jobs.objects.stores import KEY, all_of, keys_of, run

MB = 1_000_000
LARGE = 300 * MB
BOUND = 100 * MB


def test_what_was_put_is_there(objects: Objects) -> None:
    run(objects.put(KEY, b"sound"))

    assert run(objects.get(KEY)) == b"sound"
    assert run(objects.size(KEY)) == 5
    assert run(objects.get_range(KEY, 1, 4)) == b"oun"


def test_an_object_is_replaced_as_a_whole(objects: Objects) -> None:
    run(objects.put(KEY, b"a longer one"))
    run(objects.put(KEY, b"short"))

    assert run(objects.get(KEY)) == b"short"


def test_an_empty_object_is_an_object(objects: Objects) -> None:
    run(objects.put(KEY, b""))
    run(objects.put_file("empty", BytesIO()))

    assert (run(objects.get(KEY)), run(objects.size("empty"))) == (b"", 0)


def test_a_file_is_stored_from_its_beginning(objects: Objects) -> None:
    data = os.urandom(2 * PIECE_BYTES + 1)
    file = BytesIO(data)
    file.read(100)

    run(objects.put_file(KEY, file))

    pieces = run(all_of(objects.pieces(KEY, 0, len(data))))
    assert [len(piece) for piece in pieces] == [PIECE_BYTES, PIECE_BYTES, 1]
    assert b"".join(pieces) == data
    assert (
        b"".join(run(all_of(objects.pieces(KEY, 5, PIECE_BYTES + 9))))
        == (data[5 : PIECE_BYTES + 9])
    )


def test_an_object_opens_as_a_file(objects: Objects) -> None:
    data = os.urandom(PIECE_BYTES + 3)
    run(objects.put(KEY, data))

    with cast(BinaryIO, TemporaryFile()) as spare, run(objects.open(KEY, spare)) as file:
        file.seek(0)
        found = file.read()

    assert found == data


READS: dict[str, Callable[[Objects], Awaitable[Any]]] = {
    "get": lambda objects: objects.get("jobs/none"),
    "size": lambda objects: objects.size("jobs/none"),
    "range": lambda objects: objects.get_range("jobs/none", 0, 1),
    "pieces": lambda objects: all_of(objects.pieces("jobs/none", 0, 1)),
    "open": lambda objects: objects.open("jobs/none", BytesIO()),
}


@pytest.mark.parametrize("read", READS)
def test_what_is_not_there_is_no_object(objects: Objects, read: str) -> None:
    run(objects.put(KEY, b"sound"))

    with pytest.raises(NoObject):
        run(READS[read](objects))


def test_a_prefix_is_deleted_and_nothing_else(objects: Objects, tmp_path: Path) -> None:
    names = ("jobs/a/0/audio", "jobs/a/1/audio", "jobs/a/1/result.json", "jobs/ab/0/audio")
    [run(objects.put(key, b"x")) for key in names]

    run(objects.delete("jobs/a"))
    run(objects.delete("jobs/a"))  # twice does no harm

    assert run(keys_of(objects, "jobs")) == {"jobs/ab/0/audio"}
    assert not (tmp_path / "objects/jobs/a").exists()


def test_many_keys_come_page_by_page(objects: Objects) -> None:
    async def put_all() -> None:
        await asyncio.gather(*(objects.put(f"jobs/{i}/0/audio", b"x") for i in range(120)))

    run(put_all())

    assert len(run(keys_of(objects, "jobs"))) == 120
    run(objects.delete("jobs"))
    assert run(keys_of(objects, "jobs")) == set()


class _Breaks(BytesIO):
    """A file whose disk fails after some pieces."""

    def read(self, size: int | None = -1) -> bytes:
        if self.tell() >= 2 * PIECE_BYTES:
            raise OSError(5, "Input/output error")
        return super().read(size)


def test_a_file_that_breaks_leaves_nothing(objects: Objects, tmp_path: Path) -> None:
    with pytest.raises(StorageFailed):
        run(objects.put_file(KEY, _Breaks(bytes(4 * PIECE_BYTES))))

    assert run(keys_of(objects, "jobs")) == set()
    left = {path.name for path in (tmp_path / "objects").rglob("*") if path.is_file()}
    assert left == {MARKER}


class _Memory:
    """The most resident memory that this process takes more than at first."""

    def __enter__(self) -> _Memory:
        self._process, self._is_over = psutil.Process(), threading.Event()
        self._first = self._process.memory_info().rss
        self.most = 0
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._is_over.wait(0.01):
            self.most = max(self.most, self._process.memory_info().rss - self._first)

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()


@pytest.mark.slow
def test_a_large_file_passes_in_bounded_memory(objects: Objects, tmp_path: Path) -> None:
    source = tmp_path / "large"
    with source.open("wb") as made:
        made.truncate(LARGE)

    with source.open("rb") as file, _Memory() as up:
        run(objects.put_file(KEY, file))
    spare = cast(BinaryIO, TemporaryFile())  # noqa: SIM115 - the object closes it or needs it not
    with spare, _Memory() as down, run(objects.open(KEY, spare)) as file:
        n_bytes = file.seek(0, 2)

    assert n_bytes == run(objects.size(KEY)) == LARGE
    assert up.most < BOUND
    assert down.most < BOUND
