"""`vad`: the CPU time and memory of the VAD engine, against FunASR's `AutoModel`, same weights.

Everything runs on one thread and is measured in CPU time, which other work on the machine disturbs
less than wall time. Both sides take turns on the same recording; the figures are medians over the
rounds.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Annotated

import numpy as np
import psutil
import torch
import typer

from benchmarks.engines.automodel import VAD_LIMITS, AutoModelAlone, as_funasr
from benchmarks.material.recordings import read_audio, shuffled_meeting
from benchmarks.results import Figures, say
from deployments.core.types import SAMPLE_RATE_HZ, Audio, Span
from deployments.engines.features import count_frames
from deployments.engines.fsmn_vad.endpointing import Endpointer
from deployments.engines.fsmn_vad.engine import STEP_FRAMES, FsmnVad
from deployments.engines.fsmn_vad.features import decibels, frames_audio
from deployments.engines.protocols import EngineSettings
from deployments.weights.store import ensure

SEED = 5
WARM_UP_S = 20
TILE_S = 1200  # the long recording repeats this much: more than the VAD remembers
MIB = 1024**2
HOUR_S = 3600


def run(
    seconds: Annotated[int, typer.Option(help="Seconds of audio in a round.")] = 1200,
    repeats: Annotated[int, typer.Option(help="Rounds; the figures are their medians.")] = 3,
    hours: Annotated[float, typer.Option(help="Length of the long recording.")] = 10.0,
    recordings: Annotated[
        Path | None,
        typer.Option(help="Compare the spans of this directory's wav and flac files too."),
    ] = None,
) -> Figures:
    """The VAD engine against FunASR's: CPU time, spans, and memory on a long recording."""
    model_dir = ensure("fsmn-vad").path
    engine = FsmnVad(model_dir, EngineSettings(num_threads=1))
    funasr = AutoModelAlone(model_dir, **VAD_LIMITS).spans
    audio = shuffled_meeting(seconds * 1000, seed=SEED)
    converted = as_funasr(audio)
    for warm_up in (engine.detect, funasr):
        warm_up(audio[: WARM_UP_S * SAMPLE_RATE_HZ])
    ours_s, theirs_s, identical = [], [], True
    for number in range(repeats):
        ours, found = cpu_s(lambda: engine.detect(audio))
        theirs, expected = cpu_s(lambda: funasr(converted))
        identical &= found == expected
        ours_s.append(ours * HOUR_S / seconds)
        theirs_s.append(theirs * HOUR_S / seconds)
        say(f"  round {number + 1}: {ours_s[-1]:.2f} against {theirs_s[-1]:.2f} CPU s per hour")
    files = [*recordings.rglob("*.wav"), *recordings.rglob("*.flac")] if recordings else []
    for file in sorted(files):
        spoken = read_audio(file)
        same = engine.detect(spoken) == funasr(spoken)
        identical &= same
        say(f"  {file.name}: {'the same' if same else 'DIFFERENT'} spans")
    return {
        "audio": "the sample meeting's utterances in random order",
        "audio_s": seconds,
        "threads": 1,
        "cpu_s_per_hour": median(ours_s),
        "funasr_cpu_s_per_hour": median(theirs_s),
        "times_less_cpu": median(b / a for a, b in zip(ours_s, theirs_s, strict=True)),
        "n_spans": len(found),
        "recordings_compared": 1 + len(files),
        "identical": int(identical),
        **breakdown(engine, audio),
        **long_recording(engine, hours),
    }


def cpu_s(work: Callable[[], list[Span]]) -> tuple[float, list[Span]]:
    """CPU seconds of the process during the work, and its result."""
    began_s = time.process_time()
    result = work()
    return time.process_time() - began_s, result


@torch.inference_mode()
def breakdown(engine: FsmnVad, audio: Audio) -> Figures:
    """CPU seconds per hour of audio of each part of the VAD."""
    n_frames = count_frames(len(audio))
    steps = list(pairwise([*range(0, n_frames, STEP_FRAMES["cpu"]), n_frames]))
    context = engine.network.context
    parts: dict[str, float] = dict.fromkeys(("features", "network", "energies", "rule"), 0.0)
    endpointer = Endpointer(engine.rule)
    for first, last in steps:
        with charged(parts, "features"):
            rows = engine.features.stacked(audio, max(0, first - context), last, n_frames)
            rows = rows.contiguous()
        with charged(parts, "network"):
            scores = engine.network(rows, [])
        with charged(parts, "energies"):
            energies = decibels(frames_audio(audio, last - len(scores), last))
        silence = scores[:, 0].double().numpy()
        with charged(parts, "rule"):
            endpointer.feed(silence, energies, final=last == n_frames)
    audio_s = len(audio) / SAMPLE_RATE_HZ
    return {f"{part}_cpu_s_per_hour": s * HOUR_S / audio_s for part, s in parts.items()}


@contextlib.contextmanager
def charged(parts: dict[str, float], part: str) -> Iterator[None]:
    """Adds the CPU time of the block to the time of a part."""
    began_s = time.process_time()
    yield
    parts[part] += time.process_time() - began_s


def long_recording(engine: FsmnVad, hours: float) -> Figures:
    """One scan of a file of that many hours: the process's own memory, and time to the first span.

    The file is mapped into memory, as a recording in Ray's object store is. Its pages do not count
    as the process's own memory.
    """
    with TemporaryDirectory() as root:
        audio = mapped(Path(root) / "long.pcm", round(hours * HOUR_S) * SAMPLE_RATE_HZ)
        scan, process = engine.scan(audio), psutil.Process()
        before = peak = own_bytes(process)
        n_spans, first_span_ms, first_span_read_s = 0, -1.0, -1.0
        began_s, began_cpu_s = time.perf_counter(), time.process_time()
        while not scan.finished:
            [spans] = engine.advance([scan])
            peak = max(peak, own_bytes(process))
            if spans and not n_spans:
                first_span_ms = (time.perf_counter() - began_s) * 1000
                first_span_read_s = scan.at / 100
            n_spans += len(spans)
        used_s = time.process_time() - began_cpu_s
        del audio, scan
    return {
        "long_audio_h": hours,
        "long_n_spans": n_spans,
        "long_cpu_s_per_hour": used_s / hours,
        "long_own_peak_mib": peak / MIB,
        "long_peak_growth_mib": (peak - before) / MIB,
        "long_first_span_ms": first_span_ms,
        "long_first_span_read_s": first_span_read_s,
    }


def mapped(path: Path, n_samples: int) -> Audio:
    """A file of `n_samples` in which the sample meeting repeats, mapped into memory."""
    tile = shuffled_meeting(TILE_S * 1000, seed=SEED).tobytes()
    with path.open("wb") as file:
        for at in range(0, 2 * n_samples, len(tile)):
            file.write(tile[: 2 * n_samples - at])
    samples: Audio = np.memmap(path, np.int16, "r")
    return samples


def own_bytes(process: psutil.Process) -> int:
    """The process's resident memory without mapped files."""
    memory = process.memory_info()
    own: int = memory.rss - memory.shared
    return own
