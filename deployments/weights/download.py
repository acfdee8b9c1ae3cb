"""One file over HTTP: resumed where it was cut, checked before anybody sees it.

The bytes go to `NAME.part`; the file gets its name only when its hash (or, where none is known,
its size) is right. A part whose hash is known beforehand is kept for the next run, because a
wrong continuation would be noticed; any other starts again.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from deployments.weights.settings import Limits
from deployments.weights.sources import DiskFull, SourceFailed
from deployments.weights.verify import sha256_of

Report = Callable[[str, int, int | None], None]  # (file, done_bytes, total_bytes)

USER_AGENT = "paraformer-cluster"
HTTP_ERRORS = (httpx.RequestError, httpx.InvalidURL)
# A try that brings less than this counts against Limits.tries: a server that gives a few bytes
# and hangs up must not keep us for ever.
_USEFUL_BYTES = 1 << 20
_GIVE_UP_STATUS = frozenset({400, 401, 403, 404, 410, 451})


@dataclass(frozen=True, slots=True)
class Remote:
    """A file on a hub; `sha256` lists the contents that are good, `n_bytes` is the hub's word."""

    url: str
    path: str
    sha256: tuple[str, ...] = ()
    n_bytes: int | None = None


class _Again(Exception):
    """This try failed in a way that another may not."""


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turns a full disk or a used-up quota into DiskFull."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(f"the disk of {path} is full") from error
        raise


def http_client(limits: Limits) -> httpx.Client:
    """A client whose every wait is bounded, that follows a hub's redirect to its CDN."""
    timeout = httpx.Timeout(limits.stall_s, connect=limits.connect_s)
    agent = {"user-agent": USER_AGENT}
    return httpx.Client(timeout=timeout, follow_redirects=True, headers=agent)


def download(
    client: httpx.Client, remote: Remote, into: Path, *, limits: Limits, report: Report
) -> None:
    """Puts the file at `into / remote.path`; raises SourceFailed or DiskFull."""
    target = into / remote.path
    part = target.with_name(target.name + ".part")
    with disk_errors(into):
        if target.is_file() and remote.sha256 and sha256_of(target) in remote.sha256:
            return  # an earlier run got this far
        target.parent.mkdir(parents=True, exist_ok=True)
        if not remote.sha256:
            part.unlink(missing_ok=True)
        resumed = part.exists()
        _fill(client, remote, part, limits=limits, report=report)
        if resumed and _problem(part, remote):  # an earlier run's beginning may be to blame
            part.unlink()
            _fill(client, remote, part, limits=limits, report=report)
        if problem := _problem(part, remote):
            part.unlink()
            raise SourceFailed(f"{remote.path}: {problem}")
        part.replace(target)


def _fill(
    client: httpx.Client, remote: Remote, part: Path, *, limits: Limits, report: Report
) -> None:
    """Tries until `part` has all bytes; a try that brought something useful does not count."""
    deadline_s = time.monotonic() + limits.file_s
    failures = 0
    while True:
        had_bytes = _size(part)
        try:
            return _get(client, remote, part, deadline_s=deadline_s, report=report)
        except (_Again, *HTTP_ERRORS) as error:
            useful = _size(part) - had_bytes >= _USEFUL_BYTES
            failures = 1 if useful else failures + 1
            out_of_time = time.monotonic() > deadline_s
            if failures >= limits.tries or out_of_time:
                raise SourceFailed(f"{remote.path}: {describe(error)}") from error
            limits.sleep_s(limits.backoff_s * 2 ** (failures - 1))


def _get(
    client: httpx.Client, remote: Remote, part: Path, *, deadline_s: float, report: Report
) -> None:
    """One request for the rest of `part`; returns when the file is whole."""
    offset = _size(part)
    if remote.n_bytes is not None and offset == remote.n_bytes:
        return
    headers = {"accept-encoding": "identity"}  # a range of compressed bytes continues nothing
    if offset:
        headers["range"] = f"bytes={offset}-"
    with client.stream("GET", remote.url, headers=headers) as response:
        if response.status_code in _GIVE_UP_STATUS:
            raise SourceFailed(f"{remote.path}: HTTP {response.status_code} from {remote.url}")
        if response.status_code == 416:  # the part is not a beginning of this file
            part.unlink(missing_ok=True)
        if response.status_code not in (200, 206):
            raise _Again(f"HTTP {response.status_code}")
        if response.status_code == 200 or not _continues(response, offset):
            offset = 0  # the server does not resume: start over
        if response.status_code == 206 and offset == 0:
            part.unlink(missing_ok=True)
            raise _Again("the server resumed at another place")
        total = _total_bytes(response, offset) or remote.n_bytes
        with part.open("ab" if offset else "wb") as file:
            for block in response.iter_bytes():
                file.write(block)
                report(remote.path, file.tell(), total)
                if time.monotonic() > deadline_s:
                    raise _Again("the time for this file is used up")
    if total is not None and _size(part) < total:
        raise _Again(f"cut after {_size(part)} of {total} bytes")


def _continues(response: httpx.Response, offset: int) -> bool:
    return str(response.headers.get("content-range", "")).startswith(f"bytes {offset}-")


def _total_bytes(response: httpx.Response, offset: int) -> int | None:
    """The whole file's size, where the answer gives it."""
    length = response.headers.get("content-length")
    return offset + int(length) if length else None


def _problem(part: Path, remote: Remote) -> str | None:
    """Why a part that has all its bytes is not the file, or None."""
    if remote.sha256:
        actual = sha256_of(part)
        expected = " or ".join(remote.sha256)
        good = actual in remote.sha256
        return None if good else f"SHA-256 {actual} is not the expected {expected}"
    if remote.n_bytes is not None and _size(part) != remote.n_bytes:
        return f"{_size(part)} bytes, not the expected {remote.n_bytes}"
    return None


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def describe(error: Exception) -> str:
    """A short reason, fit for a list of failed sources."""
    text = str(error).strip()
    return f"{type(error).__name__}: {text}" if isinstance(error, HTTP_ERRORS) else text
