"""Where the command line writes each transcript, decided before anything is sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

STDIN = "-"
# The end of a file's name; other formats are JSON.
EXTENSIONS = {"text": "txt", "srt": "srt", "vtt": "vtt"}


@dataclass(frozen=True, slots=True)
class Job:
    """One recording: its name on the command line, and its output; None is standard output."""

    name: str
    output: Path | None


def plan(names: Sequence[str], directory: Path | None, format_name: str) -> list[Job]:
    """One job for each name. Raises ValueError where two would write the same file."""
    if directory is None:
        return [Job(name, None) for name in names]
    extension = EXTENSIONS.get(format_name, "json")
    jobs = [
        Job(name, directory / f"{'stdin' if name == STDIN else Path(name).stem}.{extension}")
        for name in names
    ]
    taken: dict[Path | None, str] = {}
    for job in jobs:
        if job.output in taken:
            raise ValueError(f"{taken[job.output]} and {job.name} would both write {job.output}.")
        taken[job.output] = job.name
    return jobs


def write(job: Job, text: str, *, force: bool) -> None:
    """Writes the job's file. Raises FileExistsError unless `force`, and OSError."""
    assert job.output is not None
    job.output.parent.mkdir(parents=True, exist_ok=True)
    with job.output.open("w" if force else "x", encoding="utf-8") as file:
        file.write(text)


def refuse_to_overwrite(job: Job, *, force: bool) -> None:
    """Raises FileExistsError before the work is done rather than after it."""
    if job.output is not None and job.output.exists() and not force:
        raise FileExistsError(f"{job.output} exists; --force overwrites it.")
