"""Kaldi's log-mel features, and FunASR's steps after them: stacking, shifting and scaling.

The numbers are those of `funasr.frontends.WavFrontend` with `dither=0`, except for float rounding.

Kaldi's recipe: snip edges, remove each frame's DC offset, pre-emphasis inside the frame, Hamming
window, 512-point power spectrum, 80 triangular filters from 20 Hz. It has no state between frames.
So a recording may be cut at any frame and read in pieces of bounded memory.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from deployments.core.types import SAMPLE_RATE_HZ, Audio
from deployments.engines.compiled import compiled
from deployments.engines.copy_in import samples_of
from deployments.engines.packed import Rows, to_device

FRAME_SAMPLES = 400  # 25 ms
SHIFT_SAMPLES = 160  # 10 ms
N_MELS = 80
N_FFT = 512
LOW_HZ = 20.0
PREEMPHASIS = 0.97
MEL_FLOOR = 1.1920929e-07  # float32's epsilon, as in Kaldi
CHUNK_FRAMES = 6000  # a minute: its spectrum takes 12 MB
CACHED_FRAMES = 400  # that fit into the cache of a CPU core


def count_frames(n_samples: int) -> int:
    """The number of whole frames of 25 ms, one every 10 ms; 0 if the audio is shorter than one."""
    return 0 if n_samples < FRAME_SAMPLES else (n_samples - FRAME_SAMPLES) // SHIFT_SAMPLES + 1


class Fbank:
    """Computes (n_frames, 80) float32 log-mel energies from int16 samples."""

    def __init__(self, device: str = "cpu") -> None:
        self._device = torch.device(device)
        window = torch.hamming_window(FRAME_SAMPLES, periodic=False, alpha=0.54, beta=0.46)
        self._window = window.to(self._device)
        self._filters = mel_filters().to(self._device)

    def __call__(self, audio: Audio) -> Tensor:
        """Features of the whole audio, (n_frames, 80)."""
        chunks = list(self.chunks(audio))
        return torch.cat(chunks) if chunks else torch.empty(0, N_MELS, device=self._device)

    def of_all(self, audios: Sequence[Audio]) -> Tensor:
        """Features of all audios end to end, (n_frames of all, 80), with one copy to the device."""
        if self._device.type == "cpu":  # frames are views, and small pieces stay in the cache
            return torch.cat(
                [piece for a in audios for piece in self.chunks(a, chunk_frames=CACHED_FRAMES)]
            )
        return self.gathered(audios)

    def gathered(self, audios: Sequence[Audio], *, chunk_frames: int = CHUNK_FRAMES) -> Tensor:
        """As `of_all`, in few and large operations, for a device where each operation costs."""
        ends = np.cumsum([len(audio) for audio in audios])
        firsts = [
            end - len(audio) + SHIFT_SAMPLES * np.arange(count_frames(len(audio)))
            for end, audio in zip(ends, audios, strict=True)
        ]
        samples = samples_of(audios, self._device).float()
        first = to_device(torch.from_numpy(np.concatenate(firsts)), self._device)
        within = torch.arange(FRAME_SAMPLES, device=self._device)
        return torch.cat(
            [
                self._log_mel(samples[some[:, None] + within])
                for some in torch.split(first, chunk_frames)
            ]
        )

    def chunks(self, audio: Audio, *, chunk_frames: int = CHUNK_FRAMES) -> Iterator[Tensor]:
        """The same features in consecutive pieces of at most `chunk_frames` frames."""
        n_frames = count_frames(len(audio))
        for first in range(0, n_frames, chunk_frames):
            last = min(n_frames, first + chunk_frames) - 1
            piece = audio[first * SHIFT_SAMPLES : last * SHIFT_SAMPLES + FRAME_SAMPLES]
            # astype copies; that is needed because an array out of shared memory is read-only
            samples = torch.from_numpy(piece.astype(np.float32)).to(self._device)
            yield self._log_mel(samples.unfold(0, FRAME_SAMPLES, SHIFT_SAMPLES))

    def _log_mel(self, frames: Tensor) -> Tensor:
        frames = frames - frames.mean(1, keepdim=True)
        padded = frames.new_zeros(len(frames), N_FFT)
        padded[:, 0] = frames[:, 0] * (1 - PREEMPHASIS)
        inner = padded[:, 1:FRAME_SAMPLES]
        torch.sub(frames[:, 1:], frames[:, :-1] * PREEMPHASIS, out=inner)
        padded[:, :FRAME_SAMPLES] *= self._window
        energies: Tensor = power(torch.fft.rfft(padded)) @ self._filters
        return energies.clamp_(min=MEL_FLOOR).log_()


def power(spectrum: Tensor) -> Tensor:
    """The squared magnitudes. On a CPU one compiled pass computes them, with the same rounding."""
    if spectrum.device.type != "cpu":
        return spectrum.real.square() + spectrum.imag.square()
    squares = torch.empty(spectrum.shape)
    _power(torch.view_as_real(spectrum).numpy(), squares.numpy())
    return squares


@compiled
def _power(parts: NDArray[np.float32], squares: NDArray[np.float32]) -> None:
    for row in range(squares.shape[0]):
        for bin_ in range(squares.shape[1]):
            real, imaginary = parts[row, bin_, 0], parts[row, bin_, 1]
            squares[row, bin_] = real * real + imaginary * imaginary


def mel_filters() -> Tensor:
    """Kaldi's triangular filters on the mel scale, (N_FFT // 2 + 1, N_MELS)."""

    def mel(hz: float) -> float:
        return 1127.0 * math.log(1 + hz / 700.0)

    low, high = mel(LOW_HZ), mel(SAMPLE_RATE_HZ / 2)
    step = (high - low) / (N_MELS + 1)
    index = torch.arange(N_MELS).unsqueeze(1)
    left, centre, right = low + index * step, low + (index + 1) * step, low + (index + 2) * step
    bin_hz = SAMPLE_RATE_HZ / N_FFT * torch.arange(N_FFT // 2)
    bins = 1127.0 * (1 + bin_hz / 700.0).log().unsqueeze(0)
    up, down = (bins - left) / (centre - left), (right - bins) / (right - centre)
    triangles = torch.clamp(torch.minimum(up, down), min=0)
    return F.pad(triangles, (0, 1)).t().contiguous()  # Kaldi leaves the Nyquist bin out


def stack_frames(frames: Tensor, *, width: int, stride: int) -> Tensor:
    """FunASR's low frame rate: every `stride` frames, `width` neighbouring frames become one row.

    (n, d) -> (ceil(n / stride), width * d). At the edges the first and last frame are repeated.
    """
    n_out = -(-frames.shape[0] // stride)
    left = (width - 1) // 2
    right = max(0, (n_out - 1) * stride + width - left - frames.shape[0])
    padded = torch.cat(
        [frames[:1].expand(left, -1), frames, frames[-1:].expand(right, -1)]
    ).contiguous()
    dim = frames.shape[1]
    return padded.as_strided((n_out, width * dim), (stride * dim, 1))


def stack_all(frames: Tensor, rows: Rows, *, width: int, stride: int) -> tuple[Tensor, Rows]:
    """`stack_frames` for every item of packed frames, and the layout of the stacked rows."""
    stacked = Rows([-(-n // stride) for n in rows.lengths], rows.device, by_item=rows.by_item)
    centres = [
        np.clip(stride * np.arange(n_out)[:, None] + np.arange(width) - (width - 1) // 2, 0, n - 1)
        for n, n_out in zip(rows.lengths, stacked.lengths, strict=True)
    ]
    index = np.concatenate([c + start for c, start in zip(centres, rows.starts, strict=True)])
    places = to_device(torch.from_numpy(index.ravel()), rows.device)
    return frames.index_select(0, places).view(len(index), -1), stacked


def normalise(features: Tensor, cmvn: Tensor | None) -> Tensor:
    """The features shifted, then scaled, by the (2, dim) statistics of `read_cmvn`."""
    return features.clone() if cmvn is None else (features + cmvn[0]) * cmvn[1]


def read_cmvn(path: Path) -> Tensor:
    """The shift and the scale in a Kaldi nnet file `am.mvn`, (2, dim) float32.

    Raises ValueError if the file does not hold two vectors of equal length.
    """
    text = path.read_text(encoding="utf-8")
    rows = []
    for marker in ("<AddShift>", "<Rescale>"):
        _, found, rest = text.partition(marker)
        _, _, values = rest.partition("[")
        values, closed, _ = values.partition("]")
        if not (found and closed):
            raise ValueError(f"{path.name} has no vector after {marker}")
        rows.append(np.array(values.split(), dtype=np.float32))
    if rows[0].shape != rows[1].shape:
        raise ValueError(f"{path.name}: shift and scale differ in length")
    return torch.from_numpy(np.stack(rows))
