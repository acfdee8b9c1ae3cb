"""A lock between processes, on a file. The system frees it even if its holder is killed."""

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
    """Holds the lock at `path`. Raises TimeoutError if another process holds it for `timeout_s`.

    While another process holds it, `on_wait` is called at every poll.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        _acquire(descriptor, path, timeout_s=timeout_s, poll_s=poll_s, on_wait=on_wait)
        yield
    finally:
        os.close(descriptor)  # frees the lock; the file stays, because removing it would be a race


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
