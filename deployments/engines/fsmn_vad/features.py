"""FSMN-VAD's features: log-mel frames with two neighbours on each side, and energies.

The numbers are those of `features.Fbank`, except for float rounding, in a third of its time. Three
things save time:

- The audio is pre-emphasised once, not once for each frame.
- A frame's mean is taken from sums over 5 ms.
- Frames are written into buffers that are already padded.

All functions are pure, so a recording may be read from any frame and in pieces of any size.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deployments.core.types import Audio
from deployments.engines.features import (
    FRAME_SAMPLES,
    MEL_FLOOR,
    N_FFT,
    N_MELS,
    PREEMPHASIS,
    SHIFT_SAMPLES,
    mel_filters,
)

STACK = 5  # frames in a row of the network's input
NEIGHBOURS = STACK // 2
BLOCK_SAMPLES = 80  # 5 ms: a frame is five blocks, the shift is two
FRAME_BLOCKS, SHIFT_BLOCKS = FRAME_SAMPLES // BLOCK_SAMPLES, SHIFT_SAMPLES // BLOCK_SAMPLES
SAMPLE_SCALE = np.float32(1 / 32768)


class VadFeatures:
    """Computes the features on one device, in float32."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        window = torch.hamming_window(FRAME_SAMPLES, periodic=False, alpha=0.54, beta=0.46)
        self._window = window.to(device)
        # Each row stands twice, so that the product also adds the squares of the real and the
        # imaginary part.
        self._filters = mel_filters().repeat_interleave(2, 0).to(device)

    def stacked(self, audio: Audio, first: int, last: int, n_frames: int) -> Tensor:
        """Frames `first` up to `last` of `n_frames`, each with its neighbours; (n, 400), a view.

        At the recording's edges the first and the last frame are repeated.
        """
        begin, end = max(0, first - NEIGHBOURS), min(n_frames, last + NEIGHBOURS)
        mel = self.log_mel(frames_audio(audio, begin, end))
        left, right = begin - (first - NEIGHBOURS), last + NEIGHBOURS - end
        if left or right:
            mel = torch.cat([mel[:1].expand(left, -1), mel, mel[-1:].expand(right, -1)])
        return mel.as_strided((last - first, STACK * N_MELS), (N_MELS, 1))

    def log_mel(self, piece: Audio) -> Tensor:
        """The log-mel features, (n_frames, 80).

        The piece must hold whole frames: 400 samples, and 160 for each further frame.
        """
        # astype copies; that is needed because an array out of shared memory is read-only
        samples = torch.from_numpy(piece.astype(np.float32)).to(self._device)
        # Sums of whole numbers below 2^24 are exact in float32.
        sums = samples.view(-1, BLOCK_SAMPLES).sum(1).unfold(0, FRAME_BLOCKS, SHIFT_BLOCKS).sum(1)
        mean = sums / FRAME_SAMPLES
        emphasised = torch.zeros_like(samples)
        torch.sub(samples[1:], samples[:-1], alpha=PREEMPHASIS, out=emphasised[1:])
        padded = samples.new_zeros(len(mean), N_FFT)
        frames = padded[:, :FRAME_SAMPLES]
        # Pre-emphasis without the mean: (x[j] - mean) - 0.97 (x[j-1] - mean). The first sample of a
        # frame is its own predecessor.
        offset = (1 - PREEMPHASIS) * mean
        frames.copy_(emphasised.unfold(0, FRAME_SAMPLES, SHIFT_SAMPLES))
        frames[:, 0] = (1 - PREEMPHASIS) * samples[: len(mean) * SHIFT_SAMPLES : SHIFT_SAMPLES]
        frames.sub_(offset[:, None]).mul_(self._window)
        power = torch.view_as_real(torch.fft.rfft(padded)).square_().flatten(1)
        return (power @ self._filters).clamp_(min=MEL_FLOOR).log_()


def frames_audio(audio: Audio, first: int, last: int) -> Audio:
    """The samples of the frames `first` up to `last`, at least one frame; a view."""
    return audio[first * SHIFT_SAMPLES : (last - 1) * SHIFT_SAMPLES + FRAME_SAMPLES]


def decibels(piece: Audio) -> NDArray[np.float64]:
    """The energy of each frame, (n_frames,), as FunASR's `ComputeDecibel`."""
    blocks = piece.reshape(-1, BLOCK_SAMPLES).astype(np.float32) * SAMPLE_SCALE
    energies = np.einsum("ij,ij->i", blocks, blocks).astype(np.float64)
    windows = np.lib.stride_tricks.sliding_window_view(energies, FRAME_BLOCKS)[::SHIFT_BLOCKS]
    found: NDArray[np.float64] = 10 * np.log10(windows.sum(axis=1) + 0.000001)
    return found
