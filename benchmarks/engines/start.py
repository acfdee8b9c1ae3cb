"""Measures in a process of its own what an engine costs a machine: start-up time and memory.

    python -m benchmarks.engines.start MODEL_DIR [--rival NAME]

Prints JSON with these keys:

- `start_s`: from the start of the process until the engine has read its first segment;
- `peak_mib`: the most memory that was resident;
- `steady_mib`: the resident memory after a few segments.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import psutil
import typer

from deployments.core.types import Audio

KIB_PER_MIB = 1024
N_SEGMENTS, SEGMENT_MS = 4, 10_000


def started(model_dir: Path, *, rival: str | None = None) -> dict[str, float]:
    """The figures of a fresh process that runs our int8 engine, or a rival on its own export."""
    command = [sys.executable, "-m", "benchmarks.engines.start", str(model_dir)]
    command += ["--rival", rival] if rival else []
    told = subprocess.run(command, capture_output=True, text=True, check=True)
    figures: dict[str, float] = json.loads(told.stdout.splitlines()[-1])
    return figures


def main(
    model_dir: Annotated[Path, typer.Argument(help="A Paraformer, or the export for a rival.")],
    rival: Annotated[str | None, typer.Option(help="A name of `rivals.RIVALS`.")] = None,
) -> None:
    """Load an engine, read a few segments and print what that took."""
    from benchmarks.material.synthetic_audio import voice

    audio = voice(SEGMENT_MS, seed=1)
    read = _reader(model_dir, rival)
    read(audio)
    start_s = time.time() - psutil.Process().create_time()
    for _ in range(N_SEGMENTS):
        read(audio)
    figures = {"start_s": start_s, "peak_mib": _status("VmHWM"), "steady_mib": _status("VmRSS")}
    typer.echo(json.dumps(figures))


def _reader(model_dir: Path, rival: str | None) -> Callable[[Audio], object]:
    if rival is not None:
        from benchmarks.engines.rivals import reader

        return reader(rival, model_dir)
    from deployments.core.types import Hints
    from deployments.engines.paraformer.engine import Paraformer
    from deployments.engines.protocols import EngineSettings

    engine = Paraformer(model_dir, EngineSettings(dtype="int8"))
    return lambda audio: engine.transcribe([audio], Hints())


def _status(key: str) -> float:
    """A figure of Linux's /proc/self/status, in MiB."""
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    (found,) = (line for line in lines if line.startswith(f"{key}:"))
    return int(found.split()[1]) / KIB_PER_MIB


if __name__ == "__main__":
    typer.run(main)
