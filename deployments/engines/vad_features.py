"""What FSMN-VAD's network reads: log-mel frames with two neighbours on each side, and energies.

The numbers are those of `features.Fbank` to within float rounding, in a third of its time: the
audio is pre-emphasised once and not once a frame, the mean is taken from sums of 5 ms, and the
frames are written into buffers that are padded already. All of it is a pure function of the audio
and the frames asked for, so a recording is read from anywhere, in any pieces.
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

STACK = 5  # frames seen at a time by the network
NEIGHBOURS = STACK // 2
BLOCK_SAMPLES = 80  # the frame is five of them, the shift two
FRAME_BLOCKS, SHIFT_BLOCKS = FRAME_SAMPLES // BLOCK_SAMPLES, SHIFT_SAMPLES // BLOCK_SAMPLES
SAMPLE_SCALE = np.float32(1 / 32768)


class VadFeatures:
    """Computes on one device, in float32."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        window = torch.hamming_window(FRAME_SAMPLES, periodic=False, alpha=0.54, beta=0.46)
        self._window = window.to(device)
        # each row twice: the squares of the real and the imaginary part are summed here too
        self._filters = mel_filters().repeat_interleave(2, 0).to(device)

    def stacked(self, audio: Audio, first: int, last: int, n_frames: int) -> Tensor:
        """Frames `first` to `last` of `n_frames`, each between its neighbours; (n, 400), a view.

        Beyond the recording's edges the first and the last frame are repeated.
        """
        begin, end = max(0, first - NEIGHBOURS), min(n_frames, last + NEIGHBOURS)
        mel = self.log_mel(frames_audio(audio, begin, end))
        left, right = begin - (first - NEIGHBOURS), last + NEIGHBOURS - end
        if left or right:
            mel = torch.cat([mel[:1].expand(left, -1), mel, mel[-1:].expand(right, -1)])
        return mel.as_strided((last - first, STACK * N_MELS), (N_MELS, 1))

    def log_mel(self, piece: Audio) -> Tensor:
        """(n_frames, 80) of samples that are whole frames: 400 and 160 for each further one."""
        # astype copies: an array that came out of shared memory is read-only
        samples = torch.from_numpy(piece.astype(np.float32)).to(self._device)
        # sums of whole numbers below 2^24: exact in float32
        sums = samples.view(-1, BLOCK_SAMPLES).sum(1).unfold(0, FRAME_BLOCKS, SHIFT_BLOCKS).sum(1)
        mean = sums / FRAME_SAMPLES
        emphasised = torch.zeros_like(samples)
        torch.sub(samples[1:], samples[:-1], alpha=PREEMPHASIS, out=emphasised[1:])
        padded = samples.new_zeros(len(mean), N_FFT)
        frames = padded[:, :FRAME_SAMPLES]
        # (x[j] - mean) - 0.97 (x[j-1] - mean), and the first sample is its own predecessor
        offset = (1 - PREEMPHASIS) * mean
        frames.copy_(emphasised.unfold(0, FRAME_SAMPLES, SHIFT_SAMPLES))
        frames[:, 0] = (1 - PREEMPHASIS) * samples[: len(mean) * SHIFT_SAMPLES : SHIFT_SAMPLES]
        frames.sub_(offset[:, None]).mul_(self._window)
        power = torch.view_as_real(torch.fft.rfft(padded)).square_().flatten(1)
        return (power @ self._filters).clamp_(min=MEL_FLOOR).log_()


def frames_audio(audio: Audio, first: int, last: int) -> Audio:
    """The samples of the frames `first` to `last`, a view; at least one frame."""
    return audio[first * SHIFT_SAMPLES : (last - 1) * SHIFT_SAMPLES + FRAME_SAMPLES]


def decibels(piece: Audio) -> NDArray[np.float64]:
    """The energy of each frame, (n_frames,), as FunASR's `ComputeDecibel`."""
    blocks = piece.reshape(-1, BLOCK_SAMPLES).astype(np.float32) * SAMPLE_SCALE
    energies = np.einsum("ij,ij->i", blocks, blocks).astype(np.float64)
    windows = np.lib.stride_tricks.sliding_window_view(energies, FRAME_BLOCKS)[::SHIFT_BLOCKS]
    found: NDArray[np.float64] = 10 * np.log10(windows.sum(axis=1) + 0.000001)
    return found
