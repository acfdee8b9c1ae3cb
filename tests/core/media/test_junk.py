"""What stands before and behind the sound does not matter."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from deployments.core.errors import InvalidAudio, UnsupportedContainer
from deployments.core.media import guards
from deployments.core.media.search import find_frames, mpeg_frame_bytes
from tests.core.media.encode import a_file, read, sine, wav_of

NOISE = np.random.default_rng(0).bytes(2000).replace(b"\xff", b"\xfe")
APE = b"APETAGEX" + struct.pack("<IIII", 2000, 32 + 900, 1, 0xA0000000) + bytes(8)
TAG = b"TAG" + "会议".encode("gbk").ljust(125, b"\0")

BEFORE = {
    "zeros": bytes(512),
    "a part of a form": b"\r\n--x\r\nContent-Type: audio/mpeg\r\n\r\n",
    "line ends": b"\r\n\r\n",
    "an APE tag": APE + bytes(900),
    "noise": NOISE,
    "an ID3 tag, then zeros": b"ID3\x04\0\0\0\0\x01\0" + bytes(128) + bytes(700),
    "many zeros": bytes(30_000),
}
BEHIND = {
    "an ID3v1 tag": TAG,
    "zeros": bytes(3000),
    "noise": NOISE,
    "text": b"recorded with a telephone\r\n" * 5,
    "an APE tag": APE + bytes(900),
}
HEADED = [
    ("mp3", "libmp3lame", 44100),
    ("adts", "aac", 44100),
    ("mp3", "libmp3lame", 8000),
    ("mp2", "mp2", 44100),
]
WHOLE = [
    *HEADED[:2],
    ("mp4", "aac", 44100),
    ("mov", "pcm_s16le", 44100),
    ("wav", "pcm_s16le", 16000),
    ("ogg", "libopus", 48000),
    ("webm", "libopus", 48000),
    ("amr", "libopencore_amrnb", 8000),
    ("flac", "flac", 16000),
    ("mpegts", "aac", 44100),
]


@pytest.mark.parametrize("junk", BEFORE)
@pytest.mark.parametrize(("container", "codec", "rate_hz"), HEADED)
def test_frames_are_found_behind_junk(junk: str, container: str, codec: str, rate_hz: int) -> None:
    data = a_file(container, codec, rate_hz)

    audio = read(BEFORE[junk] + data)

    assert audio.size == pytest.approx(read(data).size, abs=1700)


@pytest.mark.parametrize("junk", ["zeros", "a part of a form", "line ends"])
@pytest.mark.parametrize(("container", "codec", "rate_hz"), WHOLE)
def test_whole_files_are_found_behind_junk(
    junk: str, container: str, codec: str, rate_hz: int
) -> None:
    data = a_file(container, codec, rate_hz)

    assert read(BEFORE[junk] + data).size == pytest.approx(read(data).size, abs=1700)


@pytest.mark.parametrize("junk", BEHIND)
@pytest.mark.parametrize(("container", "codec", "rate_hz"), WHOLE)
def test_a_whole_file_is_not_cut_whatever_follows_it(
    junk: str, container: str, codec: str, rate_hz: int
) -> None:
    data = a_file(container, codec, rate_hz)

    assert read(data + BEHIND[junk]).size == pytest.approx(read(data).size, abs=3400)


@pytest.mark.parametrize(("container", "codec"), [("adts", "aac"), ("mp3", "libmp3lame")])
@pytest.mark.parametrize("start", [1, 100, 333])
def test_a_stream_that_begins_in_the_middle_of_a_frame_is_read(
    container: str, codec: str, start: int
) -> None:
    data = a_file(container, codec, 44100)

    assert read(data[start:]).size == pytest.approx(read(data).size, abs=3 * 1152)


@pytest.mark.parametrize("codec", ["aac", "mp2", "libmp3lame", "ac3"])
@pytest.mark.parametrize("start", [0, 188, 1000])
def test_a_transport_stream_is_read(codec: str, start: int) -> None:
    data = a_file("mpegts", codec, 48000)
    if start == 1000:  # begins in the middle of a packet, as a broadcast that was recorded
        data = data[188 - 17 :]
    elif start:
        data = data[:start] * 2 + data[start:]

    assert read(data).size == pytest.approx(32_000, abs=5000)


@pytest.mark.parametrize(
    "n_bytes", [0x7E000000, 0x7FFFFFFF, 0xFFFFFFFF, 0x80000000, 0x7FFFF000, 0x3FFFFFFF, 0]
)
def test_a_wav_with_a_placeholder_for_its_length_is_read_to_its_end(n_bytes: int) -> None:
    data = bytearray(wav_of(sine(440, rate_hz=16000, n_samples=16000)[:, None]))
    data[40:44] = struct.pack("<I", n_bytes)

    assert read(bytes(data)).size == 16_000


@pytest.mark.parametrize("n_bytes", [40_000, 70_000, 1_234_567, 0x3FFF_1234])
def test_a_wav_whose_end_is_missing_is_still_refused(n_bytes: int) -> None:
    data = bytearray(wav_of(sine(440, rate_hz=16000, n_samples=16000)[:, None]))
    data[40:44] = struct.pack("<I", n_bytes)

    with pytest.raises(InvalidAudio, match="truncated"):
        read(bytes(data))


@pytest.mark.parametrize("seed", range(20))
def test_noise_is_still_no_audio(seed: int) -> None:
    with pytest.raises((InvalidAudio, UnsupportedContainer)):
        read(np.random.default_rng(seed).bytes(100_000))


def test_two_headers_of_different_make_are_no_frames() -> None:
    first, other_rate = b"\xff\xfb\x90\x64", b"\xff\xfb\x94\x64"  # 44.1 and 48 kHz
    body = bytes(417 - 4)

    apart = memoryview(first + body + other_rate + body)
    alike = memoryview(first + body + first + body)

    assert find_frames(apart, mpeg_frame_bytes) is None
    assert find_frames(alike, mpeg_frame_bytes) == 0


@pytest.mark.parametrize("bound", ["MAX_READS_OF_A_BYTE", "MAX_PACKETS_OF_A_BYTE"])
def test_a_file_that_is_read_over_and_over_is_refused(
    bound: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bound of nothing stands for a file that FFmpeg would read for ever."""
    monkeypatch.setattr(guards, bound, 0)
    monkeypatch.setattr(guards, "READ_SLACK_BYTES", 1000)

    with pytest.raises(InvalidAudio, match="point back at each other"):
        read(a_file("mp4", "aac", 44100))
