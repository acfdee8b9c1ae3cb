"""`make demo`: serve on loopback, send a Mandarin recording through HTTP, show the transcript.

Everything happens as a user of the service would see it; the weights come from whatever source can
be reached, and are kept for the next time.
"""

from __future__ import annotations

import io
import os
import socket
import time
import wave
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar
from rich.table import Table

from clients.http import Client
from deployments.config import AppConfig
from deployments.core.audio import decode
from deployments.core.errors import AsrError, ModelUnavailable
from deployments.core.formats import seconds
from deployments.core.types import SAMPLE_RATE_HZ, Done, Progress, Transcript
from deployments.engines.protocols import ENGINES
from deployments.resolve import FALLBACK, choose_asr
from deployments.serve import load_config, running
from deployments.weights.identify import identify
from deployments.weights.sources import Progress as Fetched
from deployments.weights.store import ensure

ROOT = Path(__file__).parent.parent
CONFIG = ROOT / "demo.yaml"
SYNTHETIC = ROOT / "tests" / "data" / "meeting.flac"
RECORDING = "demo-recording"
MIN_CPUS = 2  # what the graph declares; on one core it still runs, only slower

console = Console(stderr=False, highlight=False)


def main() -> None:
    """The demo from weights to transcript. Exits with 1 and a sentence where a step fails."""
    began_s = time.monotonic()
    try:
        config = _chosen(load_config(CONFIG))
        recording, what = _recording()
        try:
            _fetch_models(config)
        except ModelUnavailable as error:
            if config.models.asr == FALLBACK:
                raise
            config = _serving(config, FALLBACK, f"{error} Serving {FALLBACK} instead.")
            _fetch_models(config)
        with ExitStack() as stack:
            with console.status("Starting Ray and loading the models (half a minute or so) ..."):
                url = stack.enter_context(running(config, port=_free_port(), num_cpus=_num_cpus()))
            console.print(f"[bold]Serving[/] at {url}; sending it {what}.")
            transcript = _transcribe(url, recording)
            console.print("[dim]Stopping ...[/]")
    except AsrError as error:
        console.print(f"[red]{error}[/]")
        raise SystemExit(1) from None
    _show(transcript, time.monotonic() - began_s)


def _chosen(config: AppConfig) -> AppConfig:
    """The configuration with `models.asr: auto` decided, and the decision said aloud."""
    with console.status("Looking for a model hub (3 s at most) ..."):
        asr, note = choose_asr(config.models)
    return _serving(config, asr, note)


def _serving(config: AppConfig, asr: str, note: str) -> AppConfig:
    """The configuration with this model, and why, for `/v1/models` too."""
    console.print(note)
    models = config.models.model_copy(update={"asr": asr})
    return config.model_copy(update={"models": models, "notes": (note,)})


def _recording() -> tuple[Path | bytes, str]:
    """The recording and what it is; the project's own synthetic one where no package answers."""
    try:
        directory = _fetch(RECORDING)
        return next(directory.rglob("*.wav")), "a real recording (70 s, vad_example.wav of fasr)"
    except ModelUnavailable as error:
        console.print(f"{error}\nTaking the project's sample meeting instead: synthetic speech.")
        return _first_minute(SYNTHETIC), "the first minute of the sample meeting (synthetic)"


def _first_minute(recording: Path) -> bytes:
    """A wav file of it."""
    upload = np.fromfile(recording, np.uint8)
    audio = decode(upload, channel=None, max_duration_s=3600)[: 60 * SAMPLE_RATE_HZ]
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(audio.itemsize)
        writer.setframerate(SAMPLE_RATE_HZ)
        writer.writeframes(audio.tobytes())
    return file.getvalue()


def _fetch_models(config: AppConfig) -> None:
    punctuates = ENGINES[identify(config.models.asr).family].punctuates
    _fetch(config.models.vad)
    _fetch(config.models.asr)
    if config.models.punctuation and not punctuates:
        _fetch(config.models.punctuation)


def _fetch(ref: str) -> Path:
    """The model's directory, with a bar while it is downloaded."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeElapsedColumn())
    with Bar(*columns, console=console, transient=True) as bar:
        task = bar.add_task(f"Fetching {ref}", total=None)

        def show(fetched: Fetched) -> None:
            bar.update(
                task,
                description=f"Fetching {ref} from {fetched.source}",
                completed=fetched.done_bytes,
                total=fetched.total_bytes,
            )

        weights = ensure(ref, on_progress=show)
    console.print(f"[dim]{ref}: {weights.source}[/]")
    return weights.path


def _transcribe(url: str, recording: Path | bytes) -> Transcript:
    columns = (TextColumn("Transcribing"), BarColumn(), TextColumn("{task.percentage:.0f}%"))
    with (
        Client(url) as client,
        Bar(*columns, TimeElapsedColumn(), console=console, transient=True) as bar,
    ):
        task = bar.add_task("Transcribing", total=None)
        for event in client.stream(recording):
            match event:
                case Progress(done_ms, total_ms):
                    bar.update(task, completed=done_ms, total=total_ms)
                case Done(transcript):
                    return transcript
    raise AssertionError("a stream ends with Done")


def _show(transcript: Transcript, wall_s: float) -> None:
    table = Table("from", "to", "pool", "replica", box=None, header_style="bold")
    table.add_column("text", overflow="fold")
    for segment in transcript.segments:
        start_s, end_s = seconds(segment.start_ms), seconds(segment.end_ms)
        text = segment.text if segment.error is None else f"({segment.error})"
        table.add_row(f"{start_s:.2f}", f"{end_s:.2f}", segment.pool, segment.replica, text)
    console.print(table)
    audio_s, busy_s = seconds(transcript.duration_ms), transcript.wall_ms / 1000
    console.print(
        f"\n[bold]{transcript.model}[/] transcribed {audio_s:.0f} s in {busy_s:.1f} s "
        f"({audio_s / busy_s:.1f} x real time); the whole demo took {wall_s:.0f} s."
    )


def _num_cpus() -> int | None:
    """What to tell Ray: the graph must fit on the smallest machine."""
    return None if (os.cpu_count() or 1) >= MIN_CPUS else MIN_CPUS


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


if __name__ == "__main__":
    main()
