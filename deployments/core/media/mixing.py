"""Turns frames of any format into 16 kHz mono int16. Notices channels that cancel each other."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import av
import av.error
import av.filter
import numpy as np
from av.audio.frame import AudioFrame
from numpy.typing import NDArray

from deployments.core.errors import BadRequest, InvalidAudio
from deployments.core.media.samples import Samples
from deployments.core.types import SAMPLE_RATE_HZ

# A lower rate means a broken header, and resampling would make one frame 1000 times as long.
MIN_RATE_HZ = 1000
# No recorder has a higher rate, and a filter for a broken header's takes seconds to compute.
MAX_RATE_HZ = 768_000
# Shorter silence passes through the resampler; a longer one ends it and costs nothing.
MAX_RESAMPLED_SILENCE_S = 1.0
WINDOW_S = 1.0
AUDIBLE_POWER = 1e-6  # of full scale 1: -60 dB
# n channels that have nothing to do with each other lose a factor of n in the mix.
CANCELLED_SHARE = 0.01
MIN_CANCELLED_SHARE_OF_WINDOWS = 0.05
MEASURED_EVERY = 4  # frames
# PyAV 18 reads past the pointers of a frame that has a plane for each of eight channels or more.
MAX_PLANES = 7
FULL_SCALE = {"u1": (128.0, 128.0), "i2": (0.0, 2.0**15), "i4": (0.0, 2.0**31)}  # (zero, full)


class Resampler:
    """An FFmpeg filter graph for frames of one format. `channel` None mixes all in equal parts."""

    def __init__(self, frame: AudioFrame, channel: int | None) -> None:
        n_channels = frame.layout.nb_channels
        if channel is not None and not 0 <= channel < n_channels:
            raise BadRequest(
                f"There is no channel {channel}: the recording has 0 to {n_channels - 1}.",
                "channel",
            )
        # Explicit gains: FFmpeg mixes only the layouts that it knows, and drops the bass channel.
        gains = {channel: 1.0} if channel is not None else dict.fromkeys(range(n_channels), 1.0)
        mix = "+".join(f"{gain / len(gains):.9f}*c{i}" for i, gain in gains.items())
        self._setup = _setup(frame)
        self._graph = av.filter.Graph()
        self._graph.link_nodes(
            self._graph.add_abuffer(
                sample_rate=frame.sample_rate,
                format=frame.format.name,
                layout=frame.layout.name,
                time_base=Fraction(1, frame.sample_rate),
            ),
            self._graph.add("pan", f"mono|c0={mix}"),
            self._graph.add("aresample", str(SAMPLE_RATE_HZ)),
            self._graph.add("aformat", "sample_fmts=s16:channel_layouts=mono"),
            self._graph.add("abuffersink"),
        ).configure()

    def takes(self, frame: AudioFrame) -> bool:
        return self._setup == _setup(frame)

    def run(self, frame: AudioFrame | None, samples: Samples) -> None:
        """Resamples a frame, or with None the rest, and adds the result to `samples`."""
        if frame is not None:
            frame.pts = None  # frames are put in their place before they come here
        self._graph.push(frame)
        while True:
            try:
                out = self._graph.pull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return
            assert isinstance(out, AudioFrame)
            samples.add(np.frombuffer(memoryview(out.planes[0]), np.int16, out.samples))


def check_rate(frame: AudioFrame) -> None:
    """Raises InvalidAudio for a sampling rate that no recorder has."""
    if not MIN_RATE_HZ <= frame.sample_rate <= MAX_RATE_HZ:
        raise InvalidAudio(f"A sampling rate of {frame.sample_rate} Hz is not usable.")


def _setup(frame: AudioFrame) -> tuple[str, str, int]:
    return frame.format.name, frame.layout.name, frame.sample_rate


def can_be_seen(frame: AudioFrame) -> bool:
    """Whether Python may look at the samples of the frame."""
    return not frame.format.is_planar or frame.layout.nb_channels <= MAX_PLANES


def without_start(frame: AudioFrame, n_samples: int) -> AudioFrame:
    """The frame without its first samples."""
    packed = frame.to_ndarray()  # (n_channels, n_samples), or (1, n_samples * n_channels)
    start = n_samples if frame.format.is_planar else n_samples * frame.layout.nb_channels
    return _like(frame, np.ascontiguousarray(packed[:, start:]))


def silent(frame: AudioFrame, n_samples: int) -> AudioFrame:
    """A frame of the same format that is silent."""
    packed = frame.to_ndarray()
    size = n_samples if frame.format.is_planar else n_samples * frame.layout.nb_channels
    zero = 128 if packed.dtype == np.uint8 else 0
    return _like(frame, np.full((len(packed), size), zero, packed.dtype))


def _like(frame: AudioFrame, packed: NDArray[Any]) -> AudioFrame:
    made = AudioFrame.from_ndarray(packed, format=frame.format.name, layout=frame.layout.name)
    made.sample_rate = frame.sample_rate
    return made


class ChannelPowers:
    """Measures whether the channels of a recording cancel each other when they are mixed.

    A microphone wired the wrong way round gives right = -left, whose mix is silent.
    """

    def __init__(self) -> None:
        self._window: NDArray[np.float64] | None = None  # (n_channels + 1,): powers, the mix last
        self._window_s = 0.0
        self._n_frames = self._n_audible = self._n_cancelled = 0
        self._cancelled: NDArray[np.float64] | None = None  # (n_channels,) powers where they cancel

    def add(self, frame: AudioFrame) -> None:
        self._n_frames += 1
        if frame.layout.nb_channels < 2 or self._n_frames % MEASURED_EVERY != 1:
            return
        powers = _powers(frame)
        if self._window is None or self._window.size != powers.size:
            self._window, self._window_s = np.zeros(powers.size), 0.0
        duration_s = frame.samples / frame.sample_rate
        self._window += powers * duration_s
        self._window_s += duration_s * MEASURED_EVERY
        if self._window_s >= WINDOW_S:
            self._judge()

    def louder_channel(self) -> int | None:
        """The channel to take in place of the mix, or None where the mix is fine."""
        self._judge()
        too_few = self._n_cancelled <= MIN_CANCELLED_SHARE_OF_WINDOWS * self._n_audible
        return None if too_few or self._cancelled is None else int(self._cancelled.argmax())

    def _judge(self) -> None:
        """Ends the window: counts it if it is audible, and if its channels cancel."""
        if self._window is None or not self._window_s:
            return
        powers = self._window / (self._window_s / MEASURED_EVERY)
        channels, mix = powers[:-1], powers[-1]
        is_audible = channels.mean() > AUDIBLE_POWER
        is_cancelled = is_audible and mix < CANCELLED_SHARE * channels.mean()
        self._n_audible += int(is_audible)
        self._n_cancelled += int(is_cancelled)
        if is_cancelled:
            if self._cancelled is None or self._cancelled.size != channels.size:
                self._cancelled = np.zeros(channels.size)
            self._cancelled += channels
        self._window, self._window_s = None, 0.0


def _powers(frame: AudioFrame) -> NDArray[np.float64]:
    """(n_channels + 1,): the mean power of each channel and of the mix; full scale is 1."""
    packed = frame.to_ndarray()
    shaped = packed if frame.format.is_planar else packed.reshape(-1, frame.layout.nb_channels).T
    zero, full = FULL_SCALE.get(packed.dtype.str[1:], (0.0, 1.0))
    channels = (shaped.astype(np.float64) - zero) / full
    powers = [*(channels**2).mean(axis=1), (channels.mean(axis=0) ** 2).mean()]
    return np.asarray(powers, np.float64)
