"""Decoding: every format that is read, every rate, channels, limits and memory."""

from __future__ import annotations

import contextlib
import threading
import time
import tracemalloc

import numpy as np
import pytest

from deployments.core import containers
from deployments.core.audio import decode
from deployments.core.containers import identify
from deployments.core.errors import AudioTooLong, BadRequest, InvalidAudio, UnsupportedContainer
from deployments.core.types import SAMPLE_RATE_HZ, Audio
from tests.core.encode import a_file, encode, read, sine, upload, wav_of

# (container, codec, rate_hz, samples an encoder may add: its last frame, and for raw AAC, which has
# no place to say so, its warm-up). Vorbis has no stable encoder in FFmpeg and is left out.
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


def test_sound_that_starts_beyond_the_limit_costs_no_memory() -> None:
    samples = sine(440, rate_hz=16000, n_samples=16000)[None]
    data = encode(
        samples, rate_hz=16000, container="matroska", codec="flac", picture=True, late_s=900_000
    )

    tracemalloc.start()
    with pytest.raises(AudioTooLong):
        read(data, max_duration_s=3600)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak_bytes < 10_000_000


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"#!AMR\n" + b"\x78" * 8_000_000, id="amr"),
        pytest.param(b"RIFF\xff\xff\xff\x7fWAVE" + b"junk\0\0\0\0" * 5_000_000, id="wav"),
        pytest.param(b"\0\0\0\x08ftyp" + b"\0\0\0\x08free" * 5_000_000, id="mp4"),
    ],
)
def test_a_file_of_millions_of_tiny_parts_keeps_no_thread(
    data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(containers, "MAX_FRAMES", 10_000)
    began_s = time.thread_time()
    with contextlib.suppress(UnsupportedContainer, InvalidAudio):
        identify(memoryview(data))

    assert time.thread_time() - began_s < 0.1  # ten times as much for all of its parts


def test_tags_in_front_of_the_sound_are_passed_over() -> None:
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
    assert 2.0 < caught.value.duration_s < 3.0


def test_a_recording_of_just_the_limit_is_read() -> None:
    audio = read(wav_of(np.zeros((2 * SAMPLE_RATE_HZ, 1), np.int16)), max_duration_s=2.0)

    assert audio.size == 2 * SAMPLE_RATE_HZ


def test_decoding_takes_little_more_memory_than_its_result() -> None:
    received = upload(wav_of(np.zeros((600 * SAMPLE_RATE_HZ, 1), np.int16)))

    tracemalloc.start()
    audio = decode(received, channel=None, max_duration_s=3600)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak_bytes < 1.5 * audio.nbytes


def test_decoding_that_nobody_waits_for_any_more_stops() -> None:
    received = upload(wav_of(np.zeros((600 * SAMPLE_RATE_HZ, 1), np.int16)))
    stop = threading.Event()
    stop.set()

    tracemalloc.start()
    with pytest.raises(InvalidAudio, match="stopped"):
        decode(received, channel=None, max_duration_s=3600, stop=stop)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak_bytes < 1_000_000  # of 19 MB of samples
