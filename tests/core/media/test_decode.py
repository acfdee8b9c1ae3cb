"""Decoding: every format that is read, every rate, channels, limits and memory."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from deployments.core.errors import (
    AudioTooLong,
    BadRequest,
    InvalidAudio,
    Overloaded,
    UnsupportedContainer,
)
from deployments.core.media import lengths
from deployments.core.media.containers import identify
from deployments.core.media.decode import decode
from deployments.core.types import SAMPLE_RATE_HZ, Audio
from tests.core.media.encode import a_file, encode, read, sine, upload, wav_of

# (container, codec, rate_hz, samples that an encoder may add). An encoder adds its last frame, and
# for raw AAC, which cannot announce it, its warm-up. Vorbis has no stable encoder in FFmpeg.
FORMATS = [
    *(("wav", "pcm_s16le", rate_hz, 0) for rate_hz in (8000, 11025, 22050, 44100, 48000)),
    ("wav", "pcm_f32le", 44100, 0),
    ("wav", "pcm_mulaw", 8000, 0),
    *(("flac", "flac", rate_hz, 0) for rate_hz in (8000, 11025, 22050, 44100, 48000)),
    *(("mp3", "libmp3lame", rate_hz, 1152) for rate_hz in (8000, 11025, 22050, 44100, 48000)),
    *(("mp4", "aac", rate_hz, 1024) for rate_hz in (8000, 11025, 22050, 44100, 48000)),
    *(("adts", "aac", rate_hz, 2048) for rate_hz in (8000, 44100)),
    *(("ogg", "libopus", rate_hz, 960) for rate_hz in (8000, 48000)),
    ("webm", "libopus", 48000, 960),
    ("matroska", "aac", 44100, 1024),
    ("mov", "pcm_s16le", 44100, 0),
    ("amr", "libopencore_amrnb", 8000, 320),
]


def with_peak(work: Callable[[], Audio]) -> tuple[Audio, int]:
    """The result, and by how many bytes the memory of this process grew at most on the way."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak is now what is resident
    before_bytes = resident_peak_bytes()
    return work(), resident_peak_bytes() - before_bytes


def resident_peak_bytes() -> int:
    status = Path("/proc/self/status").read_text()
    return 1024 * int(re.search(r"VmHWM:\s+(\d+)", status)[1])  # type: ignore[index]


def loudest_hz(audio: Audio) -> float:
    middle = audio[audio.size // 4 : -audio.size // 4].astype(np.float64)
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(middle.size)))
    return float(spectrum.argmax() * SAMPLE_RATE_HZ / middle.size)


@pytest.mark.parametrize(("container", "codec", "rate_hz", "extra_samples"), FORMATS)
def test_every_format_keeps_duration_and_pitch(
    container: str, codec: str, rate_hz: int, extra_samples: int
) -> None:
    n_samples = 2 * rate_hz + 137
    samples = sine(440, rate_hz=rate_hz, n_samples=n_samples)[None]

    audio = read(encode(samples, rate_hz=rate_hz, container=container, codec=codec))

    extra_s = audio.size / SAMPLE_RATE_HZ - n_samples / rate_hz
    assert -1 / SAMPLE_RATE_HZ <= extra_s <= extra_samples / rate_hz + 1 / SAMPLE_RATE_HZ
    assert loudest_hz(audio) == pytest.approx(440, abs=1)
    assert audio.dtype == np.int16
    assert audio.ndim == 1


def test_a_16_khz_mono_wav_comes_through_bit_for_bit() -> None:
    samples = np.random.default_rng(0).integers(-32768, 32768, 16000).astype(np.int16)

    audio = read(wav_of(samples[:, None]))

    np.testing.assert_array_equal(audio, samples)


@pytest.mark.parametrize(("channel", "hz"), [(0, 300), (1, 1000)])
def test_a_channel_can_be_selected(channel: int, hz: float) -> None:
    both = np.stack([sine(hz_of, rate_hz=44100, n_samples=44100) for hz_of in (300, 1000)])

    audio = read(
        encode(both, rate_hz=44100, container="flac", codec="flac"),
        channel=channel,
    )

    assert loudest_hz(audio) == pytest.approx(hz, abs=3)


@pytest.mark.parametrize("n_channels", [1, 2, 3, 6, 8])
def test_channels_are_mixed_down_in_equal_parts(n_channels: int) -> None:
    samples = np.zeros((16000, n_channels), np.int16)
    samples[:, -1] = 12000

    audio = read(wav_of(samples))

    np.testing.assert_allclose(audio[100:-100], 12000 / n_channels, atol=1)


@pytest.mark.parametrize("channel", [1, 7, -1])
def test_a_channel_out_of_range_is_a_bad_request(channel: int) -> None:
    with pytest.raises(BadRequest, match="channel") as caught:
        read(a_file("wav", "pcm_s16le", 16000), channel=channel)

    assert caught.value.param == "channel"


@pytest.mark.parametrize(("container", "codec"), [("mp4", "aac"), ("matroska", "flac")])
def test_the_sound_track_of_a_video_is_read(container: str, codec: str) -> None:
    samples = sine(440, rate_hz=44100, n_samples=44100)[None]

    audio = read(encode(samples, rate_hz=44100, container=container, codec=codec, picture=True))

    assert loudest_hz(audio) == pytest.approx(440, abs=2)
    assert audio.size == pytest.approx(SAMPLE_RATE_HZ, abs=400)


def test_sound_that_starts_after_the_picture_keeps_its_time() -> None:
    samples = sine(440, rate_hz=16000, n_samples=16000)[None]
    data = encode(
        samples, rate_hz=16000, container="matroska", codec="flac", picture=True, late_s=1
    )

    audio = read(data)

    assert audio.size == pytest.approx(2 * SAMPLE_RATE_HZ, abs=16)
    assert not audio[: SAMPLE_RATE_HZ - 16].any()
    assert loudest_hz(audio[SAMPLE_RATE_HZ:]) == pytest.approx(440, abs=2)


def test_sound_that_starts_after_a_long_silence_costs_no_memory() -> None:
    samples = sine(440, rate_hz=16000, n_samples=16000)[None]
    data = encode(
        samples, rate_hz=16000, container="matroska", codec="flac", picture=True, late_s=3500
    )

    audio, peak_bytes = with_peak(lambda: read(data, max_duration_s=7200))

    assert audio.size == pytest.approx(3501 * SAMPLE_RATE_HZ, abs=16)
    assert audio[-SAMPLE_RATE_HZ:].any()
    assert peak_bytes < 0.2 * audio.nbytes  # 112 MB


def test_an_hour_of_encoded_silence_costs_no_memory() -> None:
    silence = np.zeros((1, 3600 * SAMPLE_RATE_HZ), np.int16)
    data = encode(silence, rate_hz=16000, container="flac", codec="flac")

    audio, peak_bytes = with_peak(lambda: read(data, max_duration_s=7200))

    assert audio.size == silence.size
    assert peak_bytes < 0.2 * audio.nbytes


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"#!AMR\n" + b"\x78" * 8_000_000, id="amr"),
        pytest.param(b"RIFF\xff\xff\xff\x7fWAVE" + b"junk\0\0\0\0" * 5_000_000, id="wav"),
        pytest.param(b"\0\0\0\x08ftyp" + b"\0\0\0\x08free" * 5_000_000, id="mp4"),
    ],
)
def test_a_file_of_millions_of_tiny_parts_does_not_block_a_thread(
    data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lengths, "MAX_FRAMES", 10_000)
    began_s = time.thread_time()
    with contextlib.suppress(UnsupportedContainer, InvalidAudio):
        identify(memoryview(data))

    assert time.thread_time() - began_s < 0.1  # all of its parts would take ten times as long


def test_tags_in_front_of_the_sound_are_skipped() -> None:
    tag = b"ID3\x04\x00\x00\x00\x00\x01\x00" + bytes(128)

    audio = read(tag + a_file("flac", "flac", 16000))

    assert audio.size == 2 * SAMPLE_RATE_HZ


def test_a_wav_that_was_piped_and_has_no_length_is_read_to_its_end() -> None:
    data = bytearray(wav_of(sine(440, rate_hz=16000, n_samples=16000)[:, None]))
    data[4:8] = data[40:44] = b"\xff\xff\xff\xff"

    audio = read(bytes(data))

    assert audio.size == SAMPLE_RATE_HZ


def test_tags_that_are_not_utf_8_do_not_matter() -> None:
    title = b"INAM" + (8).to_bytes(4, "little") + "会议记录".encode("gbk")
    tags = b"LIST" + (4 + len(title)).to_bytes(4, "little") + b"INFO" + title
    data = wav_of(np.zeros((16000, 1), np.int16))

    audio = read(data[:36] + tags + data[36:])

    assert audio.size == 16000


def test_recordings_of_different_make_in_one_file_follow_each_other() -> None:
    mono = a_file("adts", "aac", 16000)
    both = np.stack([sine(440, rate_hz=16000, n_samples=16000)] * 2)
    stereo = encode(both, rate_hz=16000, container="adts", codec="aac")

    audio = read(mono + stereo)

    assert audio.size == pytest.approx(read(mono).size + read(stereo).size, abs=2048)
    assert loudest_hz(audio) == pytest.approx(440, abs=2)


def test_silence_is_valid() -> None:
    audio = read(wav_of(np.zeros((16000, 1), np.int16)))

    assert not audio.any()
    assert audio.size == 16000


def test_a_recording_over_the_limit_is_refused_before_its_end_is_read() -> None:
    data = wav_of(np.zeros((600 * SAMPLE_RATE_HZ, 1), np.int16))

    with pytest.raises(AudioTooLong) as caught:
        read(data, max_duration_s=2.0)

    assert caught.value.limit_s == 2.0
    assert 2.0 < caught.value.duration_s <= 3.0


def test_a_recording_of_just_the_limit_is_read() -> None:
    audio = read(wav_of(np.zeros((2 * SAMPLE_RATE_HZ, 1), np.int16)), max_duration_s=2.0)

    assert audio.size == 2 * SAMPLE_RATE_HZ


def test_decoding_takes_little_more_memory_than_its_result() -> None:
    noise = np.random.default_rng(0).integers(-99, 99, (600 * SAMPLE_RATE_HZ, 1), np.int16)
    received = upload(wav_of(noise))

    audio, peak_bytes = with_peak(lambda: decode(received, channel=None, max_duration_s=3600))

    assert audio.nbytes == noise.nbytes
    assert peak_bytes < 1.5 * audio.nbytes


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(wav_of(np.zeros((9600, 1), np.int16)), id="wav"),
        pytest.param(a_file("mp4", "aac", 16000), id="mp4"),
        pytest.param(b"#!AMR\n" + b"\x4c" * 100, id="undecodable"),
    ],
)
def test_decoding_stops_once_its_request_is_gone(data: bytes) -> None:
    stop = threading.Event()
    stop.set()

    with pytest.raises(InvalidAudio, match="stopped"):
        decode(upload(data), channel=None, max_duration_s=3600, stop=stop)


def test_decoding_stops_between_packets_that_cannot_be_decoded() -> None:
    amr = b"#!AMR\n" + b"\x4c" * 19_000_000  # frames of a type that no decoder knows
    stop = threading.Event()
    threading.Timer(0.2, stop.set).start()
    began_s = time.monotonic()

    with pytest.raises(InvalidAudio):
        decode(upload(amr), channel=None, max_duration_s=3600, stop=stop)

    assert time.monotonic() - began_s < 5  # without a look at `stop`: 19 s


@pytest.mark.parametrize("duration_s", [1, 90, 200])
def test_memory_is_asked_for_before_it_is_taken(duration_s: int) -> None:
    noise = np.random.default_rng(0).integers(-99, 99, (duration_s * SAMPLE_RATE_HZ, 1), np.int16)
    asked_s: list[float] = []

    decode(upload(wav_of(noise)), channel=None, max_duration_s=3600, admit=asked_s.append)

    assert duration_s <= sum(asked_s) <= duration_s + 60


def test_a_recording_for_which_there_is_no_memory_is_refused() -> None:
    noise = np.random.default_rng(0).integers(-99, 99, (200 * SAMPLE_RATE_HZ, 1), np.int16)

    def admit(audio_s: float) -> None:
        raise Overloaded(5.0)

    with pytest.raises(Overloaded):
        decode(upload(wav_of(noise)), channel=None, max_duration_s=3600, admit=admit)
