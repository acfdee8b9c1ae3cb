"""The samples of a recording while it is decoded. Silence takes no memory, whatever its length."""

from __future__ import annotations

import mmap
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from deployments.core.errors import AudioTooLong
from deployments.core.types import SAMPLE_RATE_HZ, Audio

SAMPLE_BYTES = 2
BLOCK_S = 60
BLOCK_SAMPLES = BLOCK_S * SAMPLE_RATE_HZ


def admit_all(audio_s: float) -> None:
    """Admits any amount of memory."""


class Samples:
    """Grows at its end. `admit` is called with audio seconds before they take memory.

    The samples are private memory that the system hands out at the first write and that reads as
    zeros until then. Zeros are therefore never written.
    """

    def __init__(self, max_duration_s: float, admit: Callable[[float], None] = admit_all) -> None:
        self.n_samples = 0
        self._max_duration_s, self._admit = max_duration_s, admit
        self._admitted = 0  # samples
        self._memory = _zeros(BLOCK_SAMPLES)

    def add(self, samples: NDArray[np.int16]) -> None:
        """Raises AudioTooLong once the limit is passed, and what `admit` raises."""
        start = self.n_samples
        self.add_silence(samples.size)
        if not samples.any():
            return
        while self._admitted < self.n_samples:
            self._admitted = max(self._admitted, start // BLOCK_SAMPLES * BLOCK_SAMPLES)
            self._admit(BLOCK_S)
            self._admitted += BLOCK_SAMPLES
        self._memory[start * SAMPLE_BYTES : self.n_samples * SAMPLE_BYTES] = samples.tobytes()

    def add_silence(self, n_samples: int) -> None:
        """Raises AudioTooLong once the limit is passed."""
        duration_s = (self.n_samples + n_samples) / SAMPLE_RATE_HZ
        if duration_s > self._max_duration_s:
            raise AudioTooLong(duration_s, self._max_duration_s)
        self.n_samples += n_samples
        if self.n_samples * SAMPLE_BYTES > len(self._memory):
            self._memory.resize(2 * self.n_samples * SAMPLE_BYTES)

    def audio(self) -> Audio:
        """(n_samples,) int16, 16 kHz. Nothing can be added after this."""
        return np.frombuffer(self._memory, dtype=np.int16)[: self.n_samples]


def _zeros(n_samples: int) -> mmap.mmap:
    return mmap.mmap(-1, n_samples * SAMPLE_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
