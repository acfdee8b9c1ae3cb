"""Figures, and the dated sections of RESULTS.md that record them and how they were measured."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TypeAlias

import psutil

Figures: TypeAlias = dict[str, float | int | str]

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "RESULTS.md"
HEADER = """\
# Results

Each section is one run of a benchmark, the newest last, failures included.
`python -m benchmarks NAME --record` appends a section.
The docstring of a benchmark's file explains the names of its figures.
Captions, options and names of figures are those of the commit that a section names.
"""
PACKAGES = ("ray", "torch", "funasr", "onnxruntime", "numpy")
GIB = 1024**3


@dataclass(frozen=True, slots=True)
class Circumstances:
    """The facts that one needs to repeat a measurement."""

    when: datetime
    commit: str
    machine: str
    versions: Mapping[str, str]
    load_1min: float  # when the measurement began: shows whether other work was running


def say(message: str) -> None:
    """Prints progress for a person, to stderr."""
    print(message, file=sys.stderr, flush=True)


def circumstances() -> Circumstances:
    """The circumstances of a measurement that begins now on this machine."""
    return Circumstances(
        when=datetime.now().astimezone(),
        commit=_commit(),
        machine=_machine(),
        versions={"python": platform.python_version()} | {p: _version(p) for p in PACKAGES},
        load_1min=os.getloadavg()[0],
    )


def check_flat(figures: Mapping[str, object]) -> Figures:
    """The figures. Raises ValueError where a value is neither a finite number nor a text."""
    flat: Figures = {}
    for name, value in figures.items():
        if not isinstance(value, int | float | str):
            raise ValueError(f"{name} is a {type(value).__name__}, not a number or a text.")
        if isinstance(value, float) and not abs(value) < float("inf"):
            raise ValueError(f"{name} is {value}.")
        flat[name] = value
    return flat


def section(
    name: str, command: Sequence[str], figures: Figures, made: Circumstances, caption: str
) -> str:
    """The section of RESULTS.md for one run of a benchmark."""
    versions = ", ".join(f"{package} {number}" for package, number in made.versions.items())
    rows = "\n".join(f"| {figure} | {shown(value)} |" for figure, value in figures.items())
    return (
        f"\n## {made.when:%Y-%m-%d %H:%M} {name}\n\n{caption}\n\n"
        f"- commit: {made.commit}\n- machine: {made.machine}, load {made.load_1min:.2f} at start\n"
        f"- versions: {versions}\n- command: `{' '.join(command)}`\n\n"
        f"| figure | value |\n|---|---|\n{rows}\n"
    )


def shown(value: float | int | str) -> str:
    """The figure as text, with at most three decimals."""
    return f"{value:.3f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def append(text: str, path: Path = RESULTS) -> None:
    """Adds a section at the end of the file. A new file begins with HEADER."""
    if not path.exists():
        path.write_text(HEADER, "utf-8")
    with path.open("a", encoding="utf-8") as file:
        file.write(text)


def _commit() -> str:
    """The checkout's commit; the text says so where files differ from it."""
    try:
        commit = _git("rev-parse", "--short", "HEAD")
        return f"{commit} with local changes" if _git("status", "--porcelain") else commit
    except (OSError, subprocess.CalledProcessError):
        return "not in a commit"


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _machine() -> str:
    cpu = platform.processor() or platform.machine()
    about = Path("/proc/cpuinfo")
    if about.exists():
        lines = about.read_text("utf-8").splitlines()
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
        cpu = names[0] if names else cpu
    memory_gib = psutil.virtual_memory().total / GIB
    return f"{cpu}, {os.cpu_count()} cores, {memory_gib:.0f} GiB, {platform.system()}"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"
