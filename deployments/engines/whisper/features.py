"""The log-mel features that Whisper was trained on (openai/whisper, audio.py), in NumPy."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from deployments.core.types import SAMPLE_RATE_HZ, Audio

N_FFT = 400
N_HOP = 160
N_FRAMES = 3000  # of a window of 30 s


def log_mel(audio: Audio, n_mels: int, n_frames: int = N_FRAMES) -> NDArray[np.float32]:
    """The features of audio that is padded with silence to `n_frames`, (n_mels, n_frames)."""
    n_samples = n_frames * N_HOP
    assert len(audio) <= n_samples, "longer than the window"
    n_padded = min(n_samples, len(audio) + N_FFT)  # later frames hold only silence
    wave = np.zeros(n_padded, np.float32)
    wave[: len(audio)] = audio / np.float32(32768)
    reflected = np.pad(wave, N_FFT // 2, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(reflected, N_FFT)[::N_HOP][:n_frames]
    spectrum = np.fft.rfft(frames * _hann(), axis=-1)
    power = (spectrum.real**2 + spectrum.imag**2).astype(np.float32)  # (n_frames, N_FFT // 2 + 1)
    mel = np.full((n_mels, n_frames), -10.0, np.float32)  # log10 of the floor 1e-10
    mel[:, : len(frames)] = np.log10(np.maximum(mel_filters(n_mels) @ power.T, 1e-10))
    features: NDArray[np.float32] = (np.maximum(mel, mel.max() - 8.0) + 4.0) / 4.0
    return features


@cache
def _hann() -> NDArray[np.float32]:
    """The periodic Hann window that torch.stft uses, (N_FFT,)."""
    return np.hanning(N_FFT + 1)[:-1].astype(np.float32)


@cache
def mel_filters(n_mels: int) -> NDArray[np.float32]:
    """Slaney's mel filters of equal area, as in librosa, (n_mels, N_FFT // 2 + 1)."""
    hz = np.fft.rfftfreq(N_FFT, 1 / SAMPLE_RATE_HZ)
    edges_hz = _mel_to_hz(np.linspace(0, _hz_to_mel(SAMPLE_RATE_HZ / 2), n_mels + 2))
    rising = (hz - edges_hz[:-2, None]) / np.diff(edges_hz)[:-1, None]
    falling = (edges_hz[2:, None] - hz) / np.diff(edges_hz)[1:, None]
    area = 2 / (edges_hz[2:] - edges_hz[:-2])
    return (np.maximum(0, np.minimum(rising, falling)) * area[:, None]).astype(np.float32)


# Slaney's mel scale: up to 1000 Hz linear, 200/3 Hz a mel; above, 27 mels for a factor of 6.4.
_LINEAR_HZ, _KNEE_HZ, _LOG_STEP = 200 / 3, 1000.0, np.log(6.4) / 27
_KNEE_MEL = _KNEE_HZ / _LINEAR_HZ


def _hz_to_mel(hz: float) -> float:
    assert hz >= _KNEE_HZ
    return float(_KNEE_MEL + np.log(hz / _KNEE_HZ) / _LOG_STEP)


def _mel_to_hz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    curved = _KNEE_HZ * np.exp(_LOG_STEP * (mel - _KNEE_MEL))
    return np.where(mel < _KNEE_MEL, mel * _LINEAR_HZ, curved)
