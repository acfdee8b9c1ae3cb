"""The speed of FunASR's `AutoModel`, with VAD and punctuation, on the same weights and device."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median

from benchmarks.engines.automodel import (
    FUNASR_THREADS,
    VAD_LIMITS,
    AutoModelAlone,
    Floats,
    as_funasr,
)
from benchmarks.gpu.measures import tf32
from benchmarks.results import Figures, say
from deployments.core.types import SAMPLE_RATE_HZ, Audio


def load(models: Path, device: str) -> AutoModelAlone:
    """The three models with the limits of our engines."""
    return AutoModelAlone(
        models / "asr",
        device=device,
        n_cpu=FUNASR_THREADS,
        vad_model=str(models / "vad"),
        vad_kwargs=VAD_LIMITS,
        punc_model=str(models / "punc"),
    )


def against_funasr(
    models: Path,
    sets: Mapping[str, Sequence[Audio]],
    *,
    device: str,
    batches_s: Sequence[int],
    repeats: int,
) -> Figures:
    """AutoModel's speed in fp32 and with TF32 on each set of recordings.

    The best `batch_size_s` is found on the first set and used for the others: to read a long
    recording with each value takes too long. The figures of a set begin with its name. Recordings
    are read one after another; `generate` would read a list in the same way.
    """
    model = load(models, device)
    figures: Figures = {}
    candidates = {dtype: list(batches_s) for dtype in ("fp32", "tf32")}
    for name, audios in sets.items():
        audio_s = sum(map(len, audios)) / SAMPLE_RATE_HZ
        figures[f"{name}audio_s"] = audio_s

        converted = [as_funasr(audio) for audio in audios]

        def read(batch_s: int, audios: Sequence[Floats] = converted) -> None:
            for audio in audios:  # no wait for the device: the results are on the host
                model.generate(audio, batch_size_s=batch_s)

        for dtype, tried_s in candidates.items():
            with tf32(dtype == "tf32"):
                best_s, took_s = best_batch(read, tried_s, repeats=repeats)
            candidates[dtype] = [best_s]
            figures[f"{name}{dtype}_rtfx"] = audio_s / took_s
            figures[f"{name}{dtype}_best_batch_s"] = best_s
            say(f"  {name}{dtype}: {audio_s / took_s:.1f} times, batch_size_s {best_s}")
    return figures


def best_batch(
    read: Callable[[int], object],
    batches_s: Sequence[int],
    *,
    repeats: int,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[int, float]:
    """The fastest `batch_size_s` and its time: the medians of `repeats` rounds are compared.

    Each value reads everything once before it is timed, so that memory is allocated and kernels are
    chosen for its shapes.
    """
    medians: dict[int, float] = {}
    for batch_s in batches_s:
        read(batch_s)
        times = list[float]()
        for _ in range(repeats):
            began_s = clock()
            read(batch_s)
            times.append(clock() - began_s)
        medians[batch_s] = median(times)
    best_s = min(medians, key=lambda batch_s: medians[batch_s])
    return best_s, medians[best_s]
