"""Every way in which a file can be bad gives an error with its reason."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deployments.core.errors import AsrError, InvalidAudio, UnsupportedContainer
from deployments.core.types import Audio
from tests.core.media.encode import a_file, encode, encode_picture_only, read, sine, wav_of

# One good file of each container whose format says how long it is.
CUTTABLE = [
    ("wav", "pcm_s16le", 16000),
    ("flac", "flac", 16000),
    ("mp3", "libmp3lame", 44100),
    ("mp4", "aac", 16000),
    ("adts", "aac", 16000),
    ("ogg", "libopus", 16000),
    ("webm", "libopus", 48000),
    ("matroska", "flac", 16000),
    ("amr", "libopencore_amrnb", 8000),
]


def adts_with_noise(n_damaged: int) -> bytes:
    """An AAC file of some 100 frames. The bodies of `n_damaged` in its middle are noise."""
    data = bytearray(
        encode(
            sine(440, rate_hz=16000, n_samples=100_000)[None],
            rate_hz=16000,
            container="adts",
            codec="aac",
        )
    )
    rng = np.random.default_rng(0)
    offset = index = 0
    while offset < len(data):
        n_bytes = (data[offset + 3] & 3) << 11 | data[offset + 4] << 3 | data[offset + 5] >> 5
        if 20 <= index < 20 + n_damaged:
            data[offset + 7 : offset + n_bytes] = rng.bytes(n_bytes - 7)
        offset, index = offset + n_bytes, index + 1
    return bytes(data)


def test_a_few_damaged_packets_are_skipped() -> None:
    assert read(adts_with_noise(3)).size == pytest.approx(100_000, abs=5 * 1024)


def test_many_damaged_packets_are_invalid() -> None:
    with pytest.raises(InvalidAudio, match="damaged"):
        read(adts_with_noise(60))


@pytest.mark.parametrize("data", [b"", b"\x9c\x02\x00\xff" * 500, b"RIFF\x24\x00\x00\x00WAVE"])
def test_bytes_that_are_not_audio_are_invalid(data: bytes) -> None:
    with pytest.raises(InvalidAudio):
        read(data)


@pytest.mark.parametrize(
    "data",
    [
        b"%PDF-1.7\n" + bytes(99),
        b"PK\x03\x04" + bytes(99),
        b"\x89PNG\r\n\x1a\n" + bytes(99),
        b"RIFF\x00\x01\x00\x00AVI LIST",
        "今天天气很好。\n".encode() * 100,
        b'{"not": "audio"}',
        b"#EXTM3U\nhttp://127.0.0.1/secret.wav\n",
        b"ffconcat version 1.0\nfile /etc/hostname\n",
    ],
    ids=["pdf", "zip", "png", "avi", "text", "json", "playlist", "concat"],
)
def test_a_container_of_another_kind_is_unsupported(data: bytes) -> None:
    with pytest.raises(UnsupportedContainer, match="Read here: WAV"):
        read(data)


@pytest.mark.parametrize(("container", "codec", "rate_hz"), CUTTABLE)
@pytest.mark.parametrize("share", [0.4, 0.5, 0.9])
def test_a_truncated_file_is_invalid(
    container: str, codec: str, rate_hz: int, share: float
) -> None:
    whole = a_file(container, codec, rate_hz)

    with pytest.raises(InvalidAudio, match="truncated"):
        read(whole[: int(share * len(whole))])


@pytest.mark.parametrize(
    ("container", "codec", "rate_hz", "n_kept"),
    [("wav", "pcm_s16le", 16000, 20), ("mp4", "aac", 16000, 40), ("flac", "flac", 16000, 50)],
)
def test_a_known_container_with_a_broken_head_is_invalid(
    container: str, codec: str, rate_hz: int, n_kept: int
) -> None:
    head = a_file(container, codec, rate_hz)[:n_kept]

    with pytest.raises(InvalidAudio):
        read(head + b"\xa5" * 2000)


def test_a_flac_with_damage_in_its_middle_is_invalid() -> None:
    data = bytearray(a_file("flac", "flac", 44100))
    data[len(data) // 2 : len(data) // 2 + 3000] = bytes(3000)

    with pytest.raises(InvalidAudio, match="damaged"):
        read(bytes(data))


@pytest.mark.parametrize("container", ["mp4", "matroska"])
def test_a_video_without_sound_is_invalid(container: str) -> None:
    with pytest.raises(InvalidAudio, match="no sound track"):
        read(encode_picture_only(container))


def test_sound_of_zero_length_is_invalid() -> None:
    with pytest.raises(InvalidAudio, match="length is zero"):
        read(wav_of(np.zeros((0, 1), np.int16)))


@pytest.mark.parametrize("rate_hz", [0, 7, 999, 768_001, 0x40003E80, 0x7FFFFFFF])
def test_a_rate_that_no_recorder_has_is_invalid(rate_hz: int) -> None:
    data = bytearray(wav_of(np.ones((64_000, 1), np.int16)))
    data[24:28] = rate_hz.to_bytes(4, "little")
    began_s = time.thread_time()

    with pytest.raises(InvalidAudio):
        read(bytes(data))

    assert time.thread_time() - began_s < 1  # a filter for the highest of them takes 6 s


@settings(max_examples=150, deadline=None)
@given(
    which=st.sampled_from(CUTTABLE),
    edits=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=20),
    share=st.floats(0, 1),
)
def test_a_mangled_file_gives_audio_or_an_error_of_ours(
    which: tuple[str, str, int], edits: list[tuple[int, int]], share: float
) -> None:
    outcome = outcome_of(mangled(SMALL[which], edits, share))

    assert isinstance(outcome, np.ndarray | AsrError)


SMALL = {
    (container, codec, rate_hz): encode(
        sine(440, rate_hz=rate_hz, n_samples=rate_hz // 4)[None],
        rate_hz=rate_hz,
        container=container,
        codec=codec,
    )
    for container, codec, rate_hz in CUTTABLE
}


def mangled(whole: bytes, edits: Sequence[tuple[int, int]], share: float) -> bytes:
    """The first `share` of the file, with some bytes near its beginning changed."""
    data = bytearray(whole)
    for at, value in edits:
        data[at % min(len(data), 400)] = value
    return bytes(data[: max(1, int(share * len(data)))])


def outcome_of(data: bytes) -> Audio | AsrError:
    try:
        return read(data)
    except AsrError as error:
        return error
