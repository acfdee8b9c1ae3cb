"""A file that one process holds open is mapped in another, and it is the right one or none."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest

from deployments.core.types import StoredUpload
from deployments.request.stored import NotHere, mapped, stored

DATA = bytes(range(256)) * 8000  # 2 MB
SPAWN = multiprocessing.get_context("spawn")


@pytest.fixture
def file(tmp_path: Path) -> Iterator[BinaryIO]:
    with tempfile.TemporaryFile(dir=tmp_path) as file:
        file.write(DATA)
        file.flush()
        yield file


def hold(folder: Path, sender: Connection) -> None:
    """Sends where an upload lies, and holds its file open until this process is killed."""
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(DATA)
        file.flush()
        sender.send(stored(file))
        sender.recv()


@pytest.fixture
def held(tmp_path: Path) -> Iterator[tuple[StoredUpload, multiprocessing.process.BaseProcess]]:
    """An upload that another process holds, and that process."""
    here, there = SPAWN.Pipe()
    process = SPAWN.Process(target=hold, args=(tmp_path, there))
    process.start()
    try:
        yield here.recv(), process
    finally:
        process.kill()
        process.join()


def test_the_file_of_another_process_is_mapped(
    held: tuple[StoredUpload, multiprocessing.process.BaseProcess],
) -> None:
    upload, _ = held

    assert mapped(upload).tobytes() == DATA


def test_a_mapped_file_can_be_read_when_its_sender_is_killed_and_is_then_gone(
    held: tuple[StoredUpload, multiprocessing.process.BaseProcess], tmp_path: Path
) -> None:
    upload, process = held

    array = mapped(upload)
    process.kill()
    process.join()

    assert array.tobytes() == DATA
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(NotHere):
        mapped(upload)


def test_an_array_is_taken_as_it_is() -> None:
    array = np.frombuffer(DATA, np.uint8)

    assert mapped(array) is array


def test_a_mapped_file_cannot_be_written(file: BinaryIO) -> None:
    array = mapped(stored(file))

    assert not array.flags.writeable


def test_a_file_of_another_machine_is_not_opened(file: BinaryIO) -> None:
    with pytest.raises(NotHere):
        mapped(replace(stored(file), machine="another"))


def test_a_closed_file_is_not_there(file: BinaryIO) -> None:
    upload = stored(file)
    file.close()

    with pytest.raises(NotHere):
        mapped(upload)


def test_another_file_under_the_same_number_is_not_taken(file: BinaryIO, tmp_path: Path) -> None:
    upload = stored(file)
    with tempfile.TemporaryFile(dir=tmp_path) as other:
        other.write(DATA)
        other.flush()
        os.dup2(other.fileno(), file.fileno())

        with pytest.raises(NotHere):
            mapped(upload)


def test_a_file_that_was_written_meanwhile_is_not_taken(file: BinaryIO) -> None:
    upload = stored(file)
    file.write(b"more")
    file.flush()

    with pytest.raises(NotHere):
        mapped(upload)
