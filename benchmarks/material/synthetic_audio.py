"""Speech-like audio, always the same for a seed: bursts of voice with syllables, and pauses."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deployments.core.types import SAMPLE_RATE_HZ, SAMPLES_PER_MS, Audio

FULL_SCALE = 32767
VOICE, VOICE_NOISE, ROOM_NOISE = 0.08, 0.004, 0.0008  # amplitudes, as parts of full scale
SYLLABLES_HZ = 4.5
N_HARMONICS = 20
MAX_BURST_MS, MAX_PAUSE_MS = 30_000, 8000


def voice(n_ms: int, seed: int) -> Audio:
    """One unbroken stretch of voice with a wandering pitch."""
    return to_int16(_voice(n_ms * SAMPLES_PER_MS, np.random.default_rng(seed)))


def conversation(
    n_ms: int, seed: int, *, mean_burst_ms: int = 6000, mean_pause_ms: int = 1200
) -> Audio:
    """Bursts of voice with pauses of room noise between them; the audio begins with a pause."""
    rng = np.random.default_rng(seed)
    n_samples = n_ms * SAMPLES_PER_MS
    pieces: list[NDArray[np.float64]] = []
    total = 0
    while total < n_samples:
        pause_ms = np.clip(rng.gamma(2.0, mean_pause_ms / 2), 150, MAX_PAUSE_MS)
        burst_ms = np.clip(rng.gamma(2.0, mean_burst_ms / 2), 400, MAX_BURST_MS)
        pieces.append(ROOM_NOISE * rng.standard_normal(int(pause_ms) * SAMPLES_PER_MS))
        pieces.append(_voice(int(burst_ms) * SAMPLES_PER_MS, rng))
        total += len(pieces[-2]) + len(pieces[-1])
    return to_int16(np.concatenate(pieces)[:n_samples])


def to_int16(samples: NDArray[np.float64]) -> Audio:
    """Samples in -1..1 as int16."""
    return np.rint(np.clip(samples, -1, 1) * FULL_SCALE).astype(np.int16)


def _voice(n_samples: int, rng: np.random.Generator) -> NDArray[np.float64]:
    time_s = np.arange(n_samples) / SAMPLE_RATE_HZ
    wander, beat = rng.uniform(0, 2 * np.pi, 2)
    pitch_hz = rng.uniform(100, 220) + 30 * np.sin(2 * np.pi * 0.7 * time_s + wander)
    phase = 2 * np.pi * np.cumsum(pitch_hz) / SAMPLE_RATE_HZ
    tone = np.zeros(n_samples)
    for harmonic in range(1, N_HARMONICS):
        tone += np.sin(harmonic * phase + rng.uniform(0, 2 * np.pi)) / harmonic
    loudness = 0.55 + 0.45 * np.sin(2 * np.pi * SYLLABLES_HZ * time_s + beat)
    samples: NDArray[np.float64] = VOICE * tone * loudness
    samples += VOICE_NOISE * rng.standard_normal(n_samples)
    return samples
