"""One process at a time: a lock on a file that the system frees even when its holder is killed."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def file_lock(
    path: Path, *, timeout_s: float, poll_s: float = 0.2, on_wait: Callable[[], None] | None = None
) -> Iterator[None]:
    """Holds the lock at `path`; raises TimeoutError if another keeps it for `timeout_s`.

    `on_wait` is called at every look while somebody else holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        _acquire(descriptor, path, timeout_s=timeout_s, poll_s=poll_s, on_wait=on_wait)
        yield
    finally:
        os.close(descriptor)  # closing frees the lock; the file stays, removing it would race


def _acquire(
    descriptor: int,
    path: Path,
    *,
    timeout_s: float,
    poll_s: float,
    on_wait: Callable[[], None] | None,
) -> None:
    deadline_s = time.monotonic() + timeout_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= deadline_s:
                raise TimeoutError(f"another process has held {path} for {timeout_s:g} s") from None
            if on_wait is not None:
                on_wait()
            time.sleep(poll_s)
