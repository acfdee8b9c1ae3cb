"""`long`: an hour of audio in one request: its time, the peak memory, and the files left behind.

The networks are tiny by default, because apart from the weights the memory hardly depends on their
size. The VAD is the real one where it is available.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import psutil
import typer

from benchmarks.machine import cores, cpu_pool, free_port
from benchmarks.material.random_models import Size
from benchmarks.material.recordings import shuffled_meeting, wav_bytes
from benchmarks.results import Figures, say
from benchmarks.service.footprint import (
    Watch,
    resident_mib,
    temporary_directory_of_our_own,
    temporary_files,
)
from benchmarks.service.served import configuration, make_models
from clients.http import Client
from deployments.serve import running

CLIENT_TIMEOUT_S = 4 * 3600.0
SEED = 6
SETTLE_S = 2.0  # until a request's last objects are freed, and its files closed with them
MIB = 1024 * 1024


def run(
    minutes: Annotated[float, typer.Option(help="Length of the recording.")] = 60.0,
    size: Annotated[Size, typer.Option(help="Geometry of the networks.")] = Size.TINY,
    threads: Annotated[int, typer.Option(help="Cores and ASR threads of the service.")] = 2,
) -> Figures:
    """A long recording through the service over HTTP: time, peak memory, files left behind."""
    n_ms = round(minutes * 60_000)
    say(f"Making {minutes:g} minutes of audio ...")
    wav = wav_bytes(shuffled_meeting(n_ms, seed=SEED))
    pool = cpu_pool(threads)
    with ExitStack() as stack:
        root = Path(stack.enter_context(TemporaryDirectory()))
        (root / "tmp").mkdir()
        stack.enter_context(cores(threads))
        models = make_models(root / "models", size=size)
        stack.enter_context(temporary_directory_of_our_own(root / "tmp"))
        say("Starting the service ...")
        service = running(configuration(models, pool), port=free_port(), num_cpus=threads)
        client = stack.enter_context(
            Client(stack.enter_context(service), timeout_s=CLIENT_TIMEOUT_S)
        )
        children = psutil.Process().children(recursive=True)
        idle_mib = resident_mib(children)
        say(f"Sending {len(wav) / MIB:.0f} MiB ...")
        with Watch(root / "tmp") as watch:
            began_s = time.monotonic()
            transcript = client.transcribe(wav)
            wall_s = time.monotonic() - began_s
        time.sleep(SETTLE_S)
        left = temporary_files(root / "tmp", psutil.Process().children(recursive=True))
        for file in left:
            say(f"left behind: {file}")
    return {
        "audio_s": n_ms / 1000,
        "upload_mib": len(wav) / MIB,
        "weights": f"random, {size}, fp32",
        "wall_s": wall_s,
        "rtfx": n_ms / 1000 / wall_s,
        "n_segments": len(transcript.segments),
        "n_chars": len(transcript.text),
        "last_segment_end_s": transcript.segments[-1].end_ms / 1000,
        "failed_segments": sum(s.error is not None for s in transcript.segments),
        **{f"idle_mib_{part}": mib for part, mib in sorted(idle_mib.items())},
        **{f"peak_mib_{part}": mib for part, mib in watch.peaks_mib.items()},
        "most_files_meanwhile": watch.most_files,
        "left_files": len(left),
    }
