"""`uploads`: the memory that large uploads cost in each process: one upload, and several at once.

The engines are fakes that cost nothing, and the recording is a WAV file of silence with many
channels. So nearly all memory is that of the upload on its way.

`idle_mib_*` and `peak_mib_*` are a process's own memory, in MiB: neither shared memory nor pages of
files, which the kernel takes back when it needs them. `*_object_store` is Ray's shared memory.
`wall_s` is the time from the first byte to the answer. `left_files` are files that remained.
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import psutil
import typer

from benchmarks.machine import free_port
from benchmarks.material.recordings import with_a_hole
from benchmarks.material.synthetic_audio import voice
from benchmarks.results import Figures, say
from benchmarks.service.footprint import (
    MIB,
    Watch,
    larger,
    part_of,
    temporary_directory_of_our_own,
    temporary_files,
)
from clients.http import Client
from deployments.config import AppConfig
from deployments.serve import running

RATE_HZ, CHANNELS, SAMPLE_BYTES = 192_000, 16, 2  # 6 MB for each second of audio
HEADER = struct.Struct("<4sI4s4sIHHIIHH4sI")  # of a WAV file
BYTES_PER_MB = 1_000_000
VOICE_MS = 500  # on each side of a hole
CLIENT_TIMEOUT_S = 3600.0
SETTLE_S = 2.0  # until a request's last objects are freed, and its files closed with them
SHARED_MEMORY = "/dev/shm/"
OBJECT_STORE = "object_store"


def run(
    mb: Annotated[int, typer.Option(help="Size of each upload, in MB of 1,000,000 bytes.")] = 200,
    at_once: Annotated[int, typer.Option(help="Uploads sent at the same time.")] = 1,
    hole_s: Annotated[
        int, typer.Option(help="Send files of 8 KB instead, with a hole of so many seconds.")
    ] = 0,
    as_job: Annotated[bool, typer.Option(help="Send each as a transcription job.")] = False,
) -> Figures:
    """Uploads of silence through the service over HTTP: peak memory, time, files left behind."""
    with ExitStack() as stack:
        root = Path(stack.enter_context(TemporaryDirectory()))
        (root / "tmp").mkdir()
        recording = silence(root / "silence.wav", mb * BYTES_PER_MB)
        if hole_s:
            recording = root / "hole.mkv"
            recording.write_bytes(with_a_hole(voice(VOICE_MS, seed=0), hole_s))
        stack.enter_context(temporary_directory_of_our_own(root / "tmp"))
        say("Starting the service ...")
        config = cheap(mb, root / "data") if as_job else cheap(mb)
        url = stack.enter_context(running(config, port=free_port(), num_cpus=2))
        client = stack.enter_context(Client(url, timeout_s=CLIENT_TIMEOUT_S))
        client.transcribe(silence(root / "short.wav", BYTES_PER_MB // 10))  # what loads once
        idle_mib = own_mib(psutil.Process().children(recursive=True))
        sent_mb = recording.stat().st_size / BYTES_PER_MB
        say(f"Sending {at_once} x {sent_mb:.3f} MB ...")
        with OwnMemory(root / "tmp", every_s=0.05) as watch, ThreadPoolExecutor(at_once) as pool:
            began_s = time.monotonic()
            send = partial(by_job, client) if as_job else partial(by_request, client)
            heard_s = list(pool.map(send, [recording] * at_once))
            wall_s = time.monotonic() - began_s
        time.sleep(SETTLE_S)
        left = temporary_files(root / "tmp", psutil.Process().children(recursive=True))
    return {
        "upload_mb": sent_mb,
        "at_once": at_once,
        "audio_s": heard_s[0],
        "wall_s": wall_s,
        **{f"idle_mib_{part}": mib for part, mib in sorted(idle_mib.items())},
        **{f"peak_mib_{part}": mib for part, mib in watch.peaks_mib.items()},
        "left_files": len(left),
    }


def by_request(client: Client, recording: Path) -> float:
    """Sends the recording and waits for its transcript. Returns the seconds that were heard."""
    return client.transcribe(recording).duration_ms / 1000


def by_job(client: Client, recording: Path) -> float:
    """The same as a job, which has no limit but its own."""
    job = client.jobs.wait(client.jobs.submit(recording).id)
    assert job.is_completed, job
    return job.files[0].duration_s or 0.0


def silence(path: Path, n_bytes: int) -> Path:
    """A WAV file of this size at `path`. Its zeros are a hole, so it takes no space on the disk."""
    frame_bytes = CHANNELS * SAMPLE_BYTES
    n_data_bytes = (n_bytes - HEADER.size) // frame_bytes * frame_bytes
    riff = (b"RIFF", HEADER.size - 8 + n_data_bytes, b"WAVE")
    sound = (CHANNELS, RATE_HZ, RATE_HZ * frame_bytes, frame_bytes, 8 * SAMPLE_BYTES)
    with path.open("wb") as file:
        file.write(HEADER.pack(*riff, b"fmt ", 16, 1, *sound, b"data", n_data_bytes))
        file.truncate(HEADER.size + n_data_bytes)
    return path


def cheap(mb: int, data_dir: Path | None = None) -> AppConfig:
    """The default configuration with engines that cost nothing, and with jobs in `data_dir`."""
    return AppConfig.model_validate(
        {
            "models": {"vad": "fake:vad", "asr": "fake:asr", "punctuation": "fake:punctuation"},
            "pools": {"only": {"num_cpus": 0.1, "speed": 1000}},
            "limits": {"max_upload_mb": mb + 1},
            "jobs": {"enabled": data_dir is not None},
            "storage": {"data_dir": data_dir},
        }
    )


class OwnMemory(Watch):
    """Samples each process's own memory and the object store, until the block is left."""

    def look(self, processes: list[psutil.Process]) -> None:
        self.peaks_mib = larger(self.peaks_mib, own_mib(processes))
        self.n_samples += 1


def own_mib(processes: list[psutil.Process]) -> dict[str, float]:
    """Own memory by part, that of the largest replica, and the memory of the object store."""
    found: dict[str, float] = {}
    for process in processes:
        try:
            part = part_of(" ".join(process.cmdline()))
            memory = process.memory_info()
            if part is None:
                continue
            found[part] = max(found.get(part, 0.0), (memory.rss - memory.shared) / MIB)
            if part == "raylet":
                found[OBJECT_STORE] = sum(_shared_bytes(process.pid)) / MIB
        except psutil.Error:
            continue  # the process has ended
    return found


def _shared_bytes(pid: int) -> Iterator[int]:
    """The memory behind each file of shared memory that the process has open."""
    seen = set()
    for descriptor in Path(f"/proc/{pid}/fd").glob("*"):
        try:
            status = descriptor.stat()
            link = os.readlink(descriptor)
        except OSError:
            continue  # closed meanwhile
        if link.startswith(SHARED_MEMORY) and status.st_ino not in seen:
            seen.add(status.st_ino)
            yield status.st_blocks * 512
