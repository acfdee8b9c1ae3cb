"""Sounds and files for tests, made with PyAV's own encoders."""

from __future__ import annotations

import io
import wave
from fractions import Fraction

import av
import numpy as np
from av.audio.stream import AudioStream
from av.video.stream import VideoStream
from numpy.typing import NDArray

from deployments.core.media.decode import decode
from deployments.core.types import SAMPLE_RATE_HZ, Audio, Upload


def sine(hz: float, *, rate_hz: int, n_samples: int) -> NDArray[np.int16]:
    """(n_samples,) int16, half of full scale."""
    t_s = np.arange(n_samples) / rate_hz
    return (16384 * np.sin(2 * np.pi * hz * t_s)).astype(np.int16)


def encode(
    channels: NDArray[np.int16],
    *,
    rate_hz: int,
    container: str,
    codec: str,
    picture: bool = False,
    late_s: int = 0,
) -> bytes:
    """The bytes of the file. `channels` is (n_channels, n_samples) int16.

    `picture` adds a video track that starts at 0. The sound starts at `late_s`.
    """
    file = io.BytesIO()
    layout = {1: "mono", 2: "stereo", 6: "5.1", 7: "6.1", 8: "7.1"}[len(channels)]
    with av.open(file, "w", format=container) as out:
        stream = out.add_stream(codec, rate=rate_hz, layout=layout)
        assert isinstance(stream, AudioStream)
        picture_track = out.add_stream("mpeg4", rate=25, width=64, height=48) if picture else None
        packed = np.ascontiguousarray(channels.T).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(packed, format="s16", layout=layout)
        frame.sample_rate, frame.time_base = rate_hz, Fraction(1, rate_hz)
        frame.pts = late_s * rate_hz
        resampler = av.AudioResampler(
            format=stream.codec_context.format,
            layout=layout,
            rate=rate_hz,
            frame_size=stream.codec_context.frame_size or None,
        )
        if isinstance(picture_track, VideoStream):
            out.mux(picture_track.encode(_grey_frame()))
            out.mux(picture_track.encode(None))
        for ready in (*resampler.resample(frame), *resampler.resample(None)):
            out.mux(stream.encode(ready))
        out.mux(stream.encode(None))
    return file.getvalue()


def encode_picture_only(container: str) -> bytes:
    """A video file of one frame, without a sound track."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as out:
        video = out.add_stream("mpeg4", rate=25, width=64, height=48)
        out.mux(video.encode(_grey_frame()))
        out.mux(video.encode(None))
    return file.getvalue()


def _grey_frame() -> av.VideoFrame:
    frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 128, np.uint8), format="rgb24")
    frame.pts, frame.time_base = 0, Fraction(1, 25)
    return frame.reformat(format="yuv420p")


def upload(data: bytes) -> Upload:
    return np.frombuffer(data, np.uint8)


def read(data: bytes, *, channel: int | None = None, max_duration_s: float = 60.0) -> Audio:
    return decode(upload(data), channel=channel, max_duration_s=max_duration_s)


def a_file(container: str, codec: str, rate_hz: int) -> bytes:
    samples = sine(440, rate_hz=rate_hz, n_samples=2 * rate_hz)[None]
    return encode(samples, rate_hz=rate_hz, container=container, codec=codec)


def wav_of(samples: NDArray[np.int16], rate_hz: int = SAMPLE_RATE_HZ) -> bytes:
    """A WAV file of `samples`, which is (n_samples, n_channels) int16."""
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(samples.shape[1])
        out.setsampwidth(2)
        out.setframerate(rate_hz)
        out.writeframes(samples.tobytes())
    return file.getvalue()
