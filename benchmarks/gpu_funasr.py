"""FunASR's `AutoModel` with VAD and punctuation on the same weights, recordings and device."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.engine import quiet
from benchmarks.gpu_measures import seconds, tf32
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
    floats = [audio.astype(np.float32) / 32768 for audio in audios]
    audio_s = sum(map(len, audios)) / SAMPLE_RATE_HZ
    figures: Figures = {"funasr_audio_s": audio_s}

    def generate(batch_s: int) -> None:
        with quiet(), warnings.catch_warnings():
            for samples in floats:
                model.generate(input=[samples], batch_size_s=batch_s)

    for name in ("fp32", "tf32"):
        speeds: dict[int, float] = {}
        with tf32(name == "tf32"):
            for batch_s in batches_s:
                took_s = seconds(lambda n=batch_s: generate(n), device, repeats=repeats)  # type: ignore[misc]
                speeds[batch_s] = audio_s / took_s
                say(f"  FunASR {name}, batch_size_s {batch_s}: {speeds[batch_s]:.1f} times")
        figures[f"funasr_{name}_rtfx"] = max(speeds.values())
        figures[f"funasr_{name}_best_batch_s"] = max(speeds, key=lambda n: speeds[n])
    return figures
