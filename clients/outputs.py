"""The files that the command line writes, decided before any recording is sent."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from clients.request import cleaned

STDIN = "-"


@dataclass(frozen=True, slots=True)
class Job:
    """One recording and where its transcript goes."""

    name: str  # as on the command line
    output: Path | None  # None: standard output

    @property
    def shown(self) -> str:
        """The name for messages."""
        return cleaned(self.name)


def plan(names: Sequence[str], directory: Path | None, extension: str) -> list[Job]:
    """One job for each name. Raises ValueError if two jobs would write the same file."""
    if directory is None:
        return [Job(name, None) for name in names]
    jobs = [Job(name, directory / f"{_stem(name)}.{extension}") for name in names]
    taken: dict[Path | None, str] = {}
    for job in jobs:
        if job.output in taken:
            raise ValueError(f"{taken[job.output]} and {job.shown} would both write {job.output}.")
        taken[job.output] = job.shown
    return jobs


def _stem(name: str) -> str:
    """The name of the recording without its ending. Of a URL the path counts alone."""
    path = urlsplit(name).path if "://" in name else name
    return "stdin" if name == STDIN else Path(path).stem or "recording"


def prepare(job: Job, *, force: bool) -> None:
    """Makes the job's directory. Raises OSError early, so that nothing is transcribed in vain."""
    if job.output is None:
        return
    folder = job.output.parent
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
    if job.output.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(job.output))
    if os.path.lexists(job.output) and not force:
        raise FileExistsError(f"{job.output} exists; --force overwrites it.")


def write(job: Job, text: str, *, force: bool) -> None:
    """Writes the job's file, whole or not at all. Raises OSError, ValueError for the text.

    Raises FileExistsError if it exists and not `force`.
    """
    assert job.output is not None
    content = text.encode("utf-8")
    with job.output.open("wb" if force else "xb") as file:
        try:
            file.write(content)
            file.flush()
        except OSError:
            job.output.unlink()
            raise


def write_whole(path: Path, text: str) -> None:
    """As `write_whole_bytes`. Raises ValueError for the text too."""
    write_whole_bytes(path, text.encode("utf-8"))


def write_whole_bytes(path: Path, content: bytes) -> None:
    """Writes the file under a name of its own and then renames it, so that no part is ever seen.

    Raises OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
