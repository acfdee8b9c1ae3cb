"""Hands a large upload from one process to another of the same machine, without a copy.

The upload lies in a temporary file without a name, which the sender holds open. The receiver opens
it through `/proc` and maps it. Such a file cannot be left behind: the kernel deletes it with the
last process that has it open or mapped, also if that process is killed.
"""

from __future__ import annotations

import mmap
import os
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np

from deployments.core.errors import AsrError
from deployments.core.types import StoredUpload, Upload

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class NotHere(AsrError):
    """The file cannot be opened from here. The sender has to send the bytes."""


def stored(file: BinaryIO) -> StoredUpload:
    """Where the file lies, for `mapped` in another process. The caller keeps the file open."""
    status = os.fstat(file.fileno())
    return StoredUpload(
        path=f"/proc/{os.getpid()}/fd/{file.fileno()}",
        machine=_machine(),
        device=status.st_dev,
        inode=status.st_ino,
        n_bytes=status.st_size,
        changed_ns=status.st_mtime_ns,
    )


def mapped(upload: Upload | StoredUpload) -> Upload:
    """The bytes of the upload. A stored one stays in its file, and the array maps that file.

    Raises NotHere where the file cannot be opened, as on another machine or in another container.
    """
    if not isinstance(upload, StoredUpload):
        return upload
    with opened(upload, "rb") as file:
        return array(file)


def opened(upload: StoredUpload, mode: Literal["rb", "r+b"]) -> BinaryIO:
    """The sender's file. Raises NotHere."""
    if upload.machine != _machine():
        raise NotHere("The file lies on another machine.")
    try:
        file = open(upload.path, mode)  # noqa: SIM115 - the caller closes it
    except OSError:  # the sender has another /proc or another user, or it has closed the file
        raise NotHere("The file cannot be opened here.") from None
    if stored(file) != replace(upload, path=stored(file).path):
        file.close()
        raise NotHere("Another file is open here under that number.")
    return file


def array(file: BinaryIO) -> Upload:
    """The file as (n_bytes,) uint8, read only. The array maps the file and survives its closing."""
    return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)


@cache
def _machine() -> str:
    """A name that the machine has until it is started again."""
    return BOOT_ID.read_text("ascii").strip()
