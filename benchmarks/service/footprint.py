"""The memory and the temporary files of this process's children, while they work."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

MIB = 1024 * 1024
# A replica's title is "ray::ServeReplica:<application>:<deployment>", perhaps with a method.
REPLICA = re.compile(r"ray::ServeReplica:[^:]*:([A-Za-z]+)")
RAY_PARTS = {
    "ray::ServeController": "serve_controller",
    "ray::ProxyActor": "serve_proxy",
    "raylet": "raylet",
    "gcs_server": "gcs_server",
}


def part_of(title: str) -> str | None:
    """The name of the deployment or of the part of Ray to which a process belongs.

    `title` is the process's command line. All pools of ASR replicas are "asr". None: a process
    that is not counted.
    """
    if replica := REPLICA.match(title):
        return replica[1].lower()
    program = Path(title.split(" ", 1)[0]).name if title.startswith("/") else title
    names = [name for start, name in RAY_PARTS.items() if program.startswith(start)]
    return names[0] if names else None


def resident_mib(processes: Iterable[psutil.Process]) -> dict[str, float]:
    """Resident memory by part: for a deployment with several replicas, that of the largest.

    Pages of Ray's object store count in every process that has read them.
    """
    found: dict[str, float] = {}
    for process in processes:
        try:
            part = part_of(" ".join(process.cmdline()))
            if part is not None:
                found[part] = max(found.get(part, 0.0), process.memory_info().rss / MIB)
        except psutil.Error:
            continue  # the process has ended
    return found


def temporary_files(directory: Path, processes: Iterable[psutil.Process]) -> list[str]:
    """Files in the directory, and deleted files of the directory that a process still has open."""
    named = [str(path) for path in directory.rglob("*") if not path.is_dir()]
    return sorted(named + [link for p in processes for link in _deleted_under(directory, p.pid)])


def _deleted_under(directory: Path, pid: int) -> list[str]:
    links = []
    for descriptor in Path(f"/proc/{pid}/fd").glob("*"):
        try:
            link = os.readlink(descriptor)
        except OSError:
            continue  # the file was closed, or the process has ended
        if link.startswith(f"{directory}/") and link.endswith(" (deleted)"):
            links.append(link)
    return links


@contextmanager
def temporary_directory_of_our_own(directory: Path) -> Iterator[None]:
    """Children started meanwhile put their temporary files in `directory`; Ray's stay elsewhere."""
    ray_place = os.environ.get("RAY_TMPDIR", os.environ.get("TMPDIR", "/tmp"))
    names = {"TMPDIR": str(directory), "RAY_TMPDIR": ray_place}
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(names)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@dataclass
class Watch:
    """Samples the memory and files of this process's children, until the block is left."""

    directory: Path
    every_s: float = 0.1  # an upload is on disk for a few tenths of a second
    peaks_mib: dict[str, float] = field(default_factory=dict)
    most_files: int = 0
    n_samples: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while True:
            self.look(psutil.Process().children(recursive=True))
            if self._stop.wait(self.every_s):
                return

    def look(self, processes: list[psutil.Process]) -> None:
        """Takes one sample of these processes."""
        self.peaks_mib = larger(self.peaks_mib, resident_mib(processes))
        self.most_files = max(self.most_files, len(temporary_files(self.directory, processes)))
        self.n_samples += 1


def larger(left: Mapping[str, float], right: Mapping[str, float]) -> dict[str, float]:
    """The larger of both values for every name."""
    return {
        name: max(left.get(name, 0.0), right.get(name, 0.0))
        for name in sorted(left.keys() | right.keys())
    }
