"""The upload's bytes to 16 kHz mono samples, through PyAV's bundled FFmpeg.

Frames are streamed: beside the upload and the samples there is one frame in memory. Only the bytes
given are read; no path or URL, not even one named inside the file.
"""

from __future__ import annotations

import threading
from fractions import Fraction

import av
import av.error
import av.filter
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer

from deployments.core.containers import Container, identify
from deployments.core.errors import AudioTooLong, BadRequest, InvalidAudio
from deployments.core.types import SAMPLE_RATE_HZ, Audio, Upload

SAMPLE_BYTES = 2
# Below this a rate is a broken header, and one frame would swell a thousandfold.
MIN_RATE_HZ = 1000
# A player skips a packet it cannot decode; a file with more than this share of them is damaged.
MAX_BAD_PACKETS_SHARE = 0.05
# A sound track that starts later than its picture by more than this gets silence in front.
MAX_LATE_MS = 100


class _Bytes:
    """The upload as the file object that PyAV reads; unlike BytesIO it copies nothing."""

    def __init__(self, data: memoryview) -> None:
        self._data, self._at = data, 0

    def read(self, n_bytes: int) -> bytes:
        chunk = bytes(self._data[self._at : self._at + n_bytes])
        self._at += len(chunk)
        return chunk

    def seek(self, offset: int, whence: int = 0) -> int:
        start = (0, self._at, len(self._data))[whence]
        self._at = min(max(start + offset, 0), len(self._data))
        return self._at

    def tell(self) -> int:
        return self._at


def _refuse(url: str, *_: object) -> None:
    """FFmpeg asks here for any further file that the upload names."""
    raise InvalidAudio("The file refers to another file, which is not read.")


class _Pcm:
    """Samples as they come in; stops the decoding once the limit is passed or nobody waits."""

    def __init__(self, max_duration_s: float, stop: threading.Event | None) -> None:
        self._max_duration_s, self._stop = max_duration_s, stop
        self._bytes = bytearray()  # grows by realloc: no second copy at the end

    def add(self, samples: memoryview | bytes) -> None:
        if self._stop is not None and self._stop.is_set():
            raise InvalidAudio("The decoding was stopped.")
        self._bytes += samples
        duration_s = len(self._bytes) / SAMPLE_BYTES / SAMPLE_RATE_HZ
        if duration_s > self._max_duration_s:
            raise AudioTooLong(duration_s, self._max_duration_s)

    def add_silence(self, duration_ms: int) -> None:
        if duration_ms / 1000 > self._max_duration_s:  # before so much memory is asked for
            raise AudioTooLong(duration_ms / 1000, self._max_duration_s)
        self.add(bytes(duration_ms * SAMPLE_RATE_HZ // 1000 * SAMPLE_BYTES))

    def audio(self) -> Audio:
        return np.frombuffer(self._bytes, dtype=np.int16)  # (n_samples,) int16, 16 kHz


class _Resampler:
    """Frames of one format in, 16 kHz mono int16 out: one FFmpeg filter graph."""

    def __init__(self, frame: AudioFrame, channel: int | None) -> None:
        n_channels = frame.layout.nb_channels
        if channel is not None and not 0 <= channel < n_channels:
            raise BadRequest(
                f"There is no channel {channel}: the recording has 0 to {n_channels - 1}.",
                "channel",
            )
        if frame.sample_rate < MIN_RATE_HZ:
            raise InvalidAudio(f"A sampling rate of {frame.sample_rate} Hz is not usable.")
        # Named gains, since FFmpeg mixes only layouts it knows and drops the bass channel.
        gains = {channel: 1.0} if channel is not None else dict.fromkeys(range(n_channels), 1.0)
        mix = "+".join(f"{gain / len(gains):.9f}*c{i}" for i, gain in gains.items())
        self.setup = _setup(frame)
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

    def run(self, frame: AudioFrame | None, pcm: _Pcm) -> None:
        """Put a frame through, None at the end; what comes out is added to `pcm`."""
        self._graph.push(frame)
        while True:
            try:
                out = self._graph.pull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return
            assert isinstance(out, AudioFrame)
            pcm.add(memoryview(out.planes[0])[: out.samples * SAMPLE_BYTES])


def _setup(frame: AudioFrame) -> tuple[str, str, int]:
    return frame.format.name, frame.layout.name, frame.sample_rate


def _sound_track(opened: InputContainer) -> AudioStream:
    stream = opened.streams.best("audio")
    if not isinstance(stream, AudioStream):
        raise InvalidAudio("The file has no sound track.")
    if stream.codec_context is None:
        raise InvalidAudio("The sound track is in a coding that is not read here.")
    stream.codec_context.thread_count = 1  # the caller's thread pool is the bound
    return stream


def _late_ms(opened: InputContainer, frame: AudioFrame) -> int:
    """How long after the picture the sound starts, so that times fit the video."""
    if not opened.streams.video or frame.time is None:
        return 0
    late_ms = round(frame.time * 1000 - (opened.start_time or 0) * 1000 / av.time_base)
    return late_ms if late_ms > MAX_LATE_MS else 0


def _read(opened: InputContainer, kind: Container, channel: int | None, pcm: _Pcm) -> None:
    """Decode the sound track into `pcm`."""
    stream = _sound_track(opened)
    resampler: _Resampler | None = None
    n_packets = n_bad = n_decoded = 0
    for packet in opened.demux(stream):
        n_packets += 1
        try:
            frames = packet.decode()
        except av.error.InvalidDataError:
            n_bad += 1
            continue
        for frame in frames:
            assert isinstance(frame, AudioFrame)
            if resampler is None:
                pcm.add_silence(_late_ms(opened, frame))
            if resampler is None or resampler.setup != _setup(frame):
                if resampler is not None:
                    resampler.run(None, pcm)
                resampler = _Resampler(frame, channel)
            frame.pts = None  # samples follow each other; the filter must not see gaps
            resampler.run(frame, pcm)
            n_decoded += frame.samples
    if resampler is not None:
        resampler.run(None, pcm)
    if kind.counts_samples and stream.duration is not None and n_decoded < stream.duration:
        raise InvalidAudio(
            f"The {kind.name} file is truncated or damaged: "
            f"{n_decoded} of its {stream.duration} samples can be read."
        )
    if n_bad > MAX_BAD_PACKETS_SHARE * n_packets:
        raise InvalidAudio(
            f"The {kind.name} file is damaged: {n_bad} of its {n_packets} packets cannot be read."
        )


def decode(
    upload: Upload,
    *,
    channel: int | None,
    max_duration_s: float,
    stop: threading.Event | None = None,
) -> Audio:
    """The recording as (n_samples,) int16, 16 kHz mono; `channel` counts from 0, None mixes all.

    Another thread ends the work, with InvalidAudio, by setting `stop`.

    Raises InvalidAudio, UnsupportedContainer, AudioTooLong (as soon as the limit is passed,
    whatever the header says) and BadRequest for a channel that the recording does not have.
    """
    kind, sound = identify(np.ascontiguousarray(upload).data)
    pcm = _Pcm(max_duration_s, stop)
    try:
        with av.open(
            _Bytes(sound),
            "r",
            format=kind.demuxer,
            metadata_errors="replace",  # tags in GBK are no reason to refuse the sound
            io_open=_refuse,
        ) as opened:
            _read(opened, kind, channel, pcm)
    except av.error.EOFError as error:
        raise InvalidAudio(f"The {kind.name} file is truncated: its end is missing.") from error
    except av.error.FFmpegError as error:
        raise InvalidAudio(f"The {kind.name} file is broken: {error.strerror}.") from error
    audio = pcm.audio()
    if not audio.size:
        raise InvalidAudio("The recording has no sound: its length is zero.")
    return audio
