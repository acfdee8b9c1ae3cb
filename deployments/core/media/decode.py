"""Decodes the bytes of an upload into 16 kHz mono samples, by the FFmpeg that PyAV brings.

Frames are streamed: memory holds the upload, the samples and one frame. Only the given bytes are
read. No path or URL is opened, not even one that the file names.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import av
import av.error
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet

from deployments.core.errors import InvalidAudio
from deployments.core.media.containers import WAV, Container, identify
from deployments.core.media.guards import Bytes, Packets, check_stop
from deployments.core.media.mixing import (
    MAX_RESAMPLED_SILENCE_S,
    ChannelPowers,
    Resampler,
    can_be_seen,
    check_rate,
    silent,
    without_start,
)
from deployments.core.media.samples import Samples, admit_all
from deployments.core.media.timeline import CLOCK_WARNING, Timeline
from deployments.core.media.wav import plain_samples
from deployments.core.types import SAMPLE_RATE_HZ, Audio, Upload

MAX_RESYNCS = 1000
NO_SOUND = "The recording has no sound: its length is zero."


def refuse_other_files(url: str, *_: object) -> None:
    """FFmpeg calls this to open any other file that the upload names."""
    raise InvalidAudio("The file refers to another file, which is not read.")


def _sound_track(opened: InputContainer) -> AudioStream:
    stream = opened.streams.best("audio")
    if not isinstance(stream, AudioStream):
        raise InvalidAudio("The file has no sound track.")
    if stream.codec_context is None:
        raise InvalidAudio("The sound track is in a coding that is not read here.")
    stream.codec_context.thread_count = 1  # the caller's thread pool is the bound
    return stream


def _demuxed(opened: InputContainer, stream: AudioStream) -> Iterator[Packet[AudioStream]]:
    """The packets.

    FFmpeg asks to be called again where it skips bytes that are no packets. PyAV 18 fails with
    IndexError where a further track begins in the middle of a transport stream.
    """
    for _ in range(MAX_RESYNCS):
        try:
            yield from opened.demux(stream)
            return
        except (av.error.BlockingIOError, IndexError):
            continue


class _Track:
    """Puts the frames of a sound track in their places, one after the other."""

    def __init__(self, samples: Samples, channel: int | None, start_s: float | None) -> None:
        self.powers = ChannelPowers()
        self.timeline = Timeline(start_s)
        self.n_decoded = 0  # samples, at the rate of the file
        self._samples, self._channel = samples, channel
        self._resampler: Resampler | None = None

    def add(self, frame: AudioFrame, stamp_s: float | None) -> None:
        check_rate(frame)
        place = self.timeline.place(stamp_s, frame.samples / frame.sample_rate)
        self.n_decoded += frame.samples
        if place.silence_s:
            self._add_silence(frame, place.silence_s)
        if place.skip_s:
            n_skipped = round(place.skip_s * frame.sample_rate)
            if n_skipped >= frame.samples or not can_be_seen(frame):
                return
            frame = without_start(frame, n_skipped)
        if self._channel is None and can_be_seen(frame):
            self.powers.add(frame)
        self._resampler_for(frame).run(frame, self._samples)

    def finish(self) -> None:
        if self._resampler is not None:
            self._resampler.run(None, self._samples)
            self._resampler = None

    def _add_silence(self, frame: AudioFrame, silence_s: float) -> None:
        if silence_s <= MAX_RESAMPLED_SILENCE_S and can_be_seen(frame):
            n_samples = round(silence_s * frame.sample_rate)
            self._resampler_for(frame).run(silent(frame, n_samples), self._samples)
        else:
            self.finish()
            self._samples.add_silence(round(silence_s * SAMPLE_RATE_HZ))

    def _resampler_for(self, frame: AudioFrame) -> Resampler:
        if self._resampler is None or not self._resampler.takes(frame):
            self.finish()
            self._resampler = Resampler(frame, self._channel)
        return self._resampler


def _read(
    opened: InputContainer,
    kind: Container,
    n_file_bytes: int,
    channel: int | None,
    samples: Samples,
    stop: threading.Event | None,
) -> _Track:
    """Decodes the sound track into `samples`."""
    stream = _sound_track(opened)
    start_s = None if opened.start_time is None else opened.start_time / av.time_base
    track = _Track(samples, channel, start_s)
    packets = Packets(kind, n_file_bytes)
    for packet in _demuxed(opened, stream):
        check_stop(stop)
        packets.count(packet)
        try:
            frames = packet.decode()
        except av.error.EOFError:
            break  # the decoder was told of the end already
        except (av.error.InvalidDataError, av.error.PatchWelcomeError):
            packets.bad(packet)
            continue
        for frame in frames:
            assert isinstance(frame, AudioFrame)
            track.add(frame, frame.time if kind.has_stamps else None)
            packets.good()
    track.finish()
    if kind.counts_samples and stream.duration is not None and track.n_decoded < stream.duration:
        raise InvalidAudio(
            f"The {kind.name} file is truncated or damaged: "
            f"{track.n_decoded} of its {stream.duration} samples can be read."
        )
    packets.finish()
    return track


def _beyond(credit_s: float, admit: Callable[[float], None]) -> Callable[[float], None]:
    """Asks only for what a second reading takes more than the first, whose memory it gets."""

    def admit_more(audio_s: float) -> None:
        nonlocal credit_s
        if credit_s >= audio_s:
            credit_s -= audio_s
        else:
            admit(audio_s)

    return admit_more


def _copied(plain: Audio, samples: Samples, stop: threading.Event | None) -> Audio:
    """The samples, a second at a time."""
    for start in range(0, plain.size, SAMPLE_RATE_HZ):
        check_stop(stop)
        samples.add(plain[start : start + SAMPLE_RATE_HZ])
    if not plain.size:
        raise InvalidAudio(NO_SOUND)
    return samples.audio()


def decode(
    upload: Upload,
    *,
    channel: int | None,
    max_duration_s: float,
    stop: threading.Event | None = None,
    admit: Callable[[float], None] = admit_all,
    warn: Callable[[str], None] = lambda warning: None,
) -> Audio:
    """The recording as (n_samples,) int16, 16 kHz mono.

    `channel` counts from 0, and None mixes all channels. Where they cancel each other, the louder
    one is taken. Missing packets become silence of their length. `warn` is told of either in a
    sentence. `admit` is called with audio seconds before they take memory, and may raise. Another
    thread may set `stop`, which ends the work with InvalidAudio.

    Raises InvalidAudio, UnsupportedContainer, and BadRequest for a channel that the recording does
    not have. Raises AudioTooLong as soon as the limit is passed, whatever the header says.
    """
    kind, sound = identify(np.ascontiguousarray(upload).data)

    if kind is WAV and not channel and (plain := plain_samples(sound)) is not None:
        return _copied(plain, Samples(max_duration_s, admit), stop)

    def read(channel: int | None, admit: Callable[[float], None]) -> tuple[Audio, _Track]:
        samples = Samples(max_duration_s, admit)
        with av.open(
            Bytes(sound, stop),
            "r",
            format=kind.demuxer,
            metadata_errors="replace",  # tags in GBK are no reason to refuse the sound
            io_open=refuse_other_files,
        ) as opened:
            track = _read(opened, kind, len(sound), channel, samples, stop)
        return samples.audio(), track

    admitted_s: list[float] = []

    def admit_and_note(audio_s: float) -> None:
        admit(audio_s)
        admitted_s.append(audio_s)

    try:
        audio, track = read(channel, admit_and_note)
        louder = track.powers.louder_channel()
        if louder is not None:
            del audio
            audio, track = read(louder, _beyond(sum(admitted_s), admit))
            warn(f"The channels cancel each other in a mix, so channel {louder} alone was read.")
    except av.error.EOFError as error:
        raise InvalidAudio(f"The {kind.name} file is truncated: its end is missing.") from error
    except av.error.FFmpegError as error:
        raise InvalidAudio(f"The {kind.name} file is broken: {error.strerror}.") from error
    if track.timeline.is_broken:
        warn(CLOCK_WARNING)
    if not audio.size:
        raise InvalidAudio(NO_SOUND)
    return audio
