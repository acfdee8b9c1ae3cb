"""Downloads one file over HTTP, resumes it after a cut, and checks it before it is used.

The bytes go to `NAME.part`. The file gets its name only if its hash is right, or its size if no
hash is known. A part is kept for the next run only if the file's hash is known, because then a
wrong continuation would be noticed. Any other part is discarded.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from deployments.proxies import Transport, through
from deployments.weights.settings import Limits
from deployments.weights.sources import DiskFull, SourceFailed
from deployments.weights.verify import sha256_of

Report = Callable[[str, int, int | None], None]  # (file, done_bytes, total_bytes)

USER_AGENT = "paraformer-cluster"
HTTP_ERRORS = (httpx.RequestError, httpx.InvalidURL)
# A try that brings less than this counts against Limits.tries. Otherwise a server that sends a few
# bytes and hangs up would be retried for ever.
_USEFUL_BYTES = 1 << 20
_GIVE_UP_STATUS = frozenset({400, 401, 404, 410, 451})  # a 403 may be a busy hub or an old link


@dataclass(frozen=True, slots=True)
class Remote:
    """A file on a hub. `sha256` lists the hashes that are good; `n_bytes` is the expected size."""

    url: str
    path: str
    sha256: tuple[str, ...] = ()
    n_bytes: int | None = None


class _Again(Exception):
    """This try failed, but a retry may succeed."""


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
    """A client with a timeout on every wait. It follows a hub's redirect to its CDN."""
    timeout = httpx.Timeout(limits.stall_s, connect=limits.connect_s)
    agent = {"user-agent": USER_AGENT}
    return httpx.Client(
        timeout=timeout, follow_redirects=True, headers=agent, transport=Transport()
    )


def download(
    client: httpx.Client, remote: Remote, into: Path, *, limits: Limits, report: Report
) -> None:
    """Downloads the file to `into / remote.path`. Raises SourceFailed or DiskFull."""
    target = into / remote.path
    part = target.with_name(target.name + ".part")
    with disk_errors(into):
        if target.is_file() and remote.sha256 and sha256_of(target) in remote.sha256:
            return  # an earlier run finished this file
        target.parent.mkdir(parents=True, exist_ok=True)
        if not remote.sha256:
            part.unlink(missing_ok=True)
        resumed = part.exists()
        _fill(client, remote, part, limits=limits, report=report)
        if resumed and _problem(part, remote):  # the part of an earlier run may be wrong
            part.unlink()
            _fill(client, remote, part, limits=limits, report=report)
        if problem := _problem(part, remote):
            part.unlink()
            raise SourceFailed(f"{remote.path}: {problem}")
        part.replace(target)


def _fill(
    client: httpx.Client, remote: Remote, part: Path, *, limits: Limits, report: Report
) -> None:
    """Retries until `part` has all bytes. A try that brought many bytes restarts the count."""
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
    """Makes one request for the rest of `part`; returns when the file is whole."""
    offset = _size(part)
    if remote.n_bytes is not None and offset == remote.n_bytes:
        return
    headers = {"accept-encoding": "identity"}  # a range of a compressed body could not be appended
    if offset:
        headers["range"] = f"bytes={offset}-"
    with client.stream("GET", remote.url, headers=headers) as response:
        if response.status_code in _GIVE_UP_STATUS:
            raise SourceFailed(f"{remote.path}: {status_of(response)}")
        if response.status_code == 416:  # range not satisfiable: the part is not of this file
            part.unlink(missing_ok=True)
        if response.status_code not in (200, 206):
            raise _Again(status_of(response))
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


def status_of(response: httpx.Response) -> str:
    """A reason for a list of failed sources. It names the proxy, which may have answered itself."""
    return f"HTTP {response.status_code} from {response.url}{through(response.url)}"


def _continues(response: httpx.Response, offset: int) -> bool:
    return str(response.headers.get("content-range", "")).startswith(f"bytes {offset}-")


def _total_bytes(response: httpx.Response, offset: int) -> int | None:
    """The size of the whole file, if the response gives it."""
    length = response.headers.get("content-length")
    return offset + int(length) if length else None


def _problem(part: Path, remote: Remote) -> str | None:
    """Why a complete part is not the expected file; None if it is."""
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
    """A short reason for a list of failed sources."""
    text = str(error).strip()
    return f"{type(error).__name__}: {text}" if isinstance(error, HTTP_ERRORS) else text
