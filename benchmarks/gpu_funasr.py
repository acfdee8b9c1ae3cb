"""FunASR's `AutoModel` with VAD and punctuation on the same weights, recordings and device."""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.engine import quiet
from benchmarks.gpu_measures import tf32
from benchmarks.results import Figures
from benchmarks.served import say
from deployments.core.types import SAMPLE_RATE_HZ, Audio
from deployments.engines.fsmn_vad import MAX_END_SILENCE_MS, MAX_SEGMENT_MS


def load(models: Path, device: str) -> Any:
    """The three models with the limits that the engines have."""
    with quiet():
        from funasr import AutoModel

        return AutoModel(
            model=str(models / "asr"),
            vad_model=str(models / "vad"),
            vad_kwargs={
                "max_end_silence_time": MAX_END_SILENCE_MS,
                "max_single_segment_time": MAX_SEGMENT_MS,
            },
            punc_model=str(models / "punc"),
            device=device,
            disable_update=True,
            disable_pbar=True,
            log_level="ERROR",
        )


def against_funasr(
    models: Path, audios: Sequence[Audio], *, device: str, batches_s: Sequence[int], repeats: int
) -> Figures:
    """Its speed in fp32 and with TF32 at each `batch_size_s`, and the best of them.

    One recording after another: `generate` reads a list that way too.
    """
    model = load(models, device)
    floats = [np.float32(1 / 32768) * audio.astype(np.float32) for audio in audios]
    audio_s = sum(map(len, audios)) / SAMPLE_RATE_HZ
    figures: Figures = {"funasr_audio_s": audio_s}

    def took_s(samples: Sequence[NDArray[np.float32]], batch_s: int) -> float:
        began_s = time.perf_counter()  # its results are on the host: nothing is left to wait for
        with quiet(), warnings.catch_warnings():
            for one in samples:
                model.generate(input=[one], batch_size_s=batch_s)
        return time.perf_counter() - began_s

    for name in ("fp32", "tf32"):
        speeds: dict[int, float] = {}
        with tf32(name == "tf32"):
            for batch_s in batches_s:
                took_s(floats, batch_s)  # as ours: allocator and plans are warm for these shapes
                speeds[batch_s] = audio_s / median(took_s(floats, batch_s) for _ in range(repeats))
                say(f"  FunASR {name}, batch_size_s {batch_s}: {speeds[batch_s]:.1f} times")
        figures[f"funasr_{name}_rtfx"] = max(speeds.values())
        figures[f"funasr_{name}_best_batch_s"] = max(speeds, key=lambda n: speeds[n])
    return figures
