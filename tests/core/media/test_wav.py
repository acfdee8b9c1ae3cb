"""The direct reading of plain WAV files equals FFmpeg's."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.core.errors import AsrError
from deployments.core.media import decode as decoding
from deployments.core.media.wav import plain_samples
from tests.core.media.encode import read, wav_of

SAMPLES = np.random.default_rng(0).integers(-32768, 32768, 70 * 16_000).astype(np.int16)
PLAIN = wav_of(SAMPLES[:8000, None])


def both(data: bytes) -> list[object]:
    """What the direct reading and FFmpeg's make of the file."""
    found: list[object] = []
    for direct in (plain_samples, lambda data: None):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(decoding, "plain_samples", direct)
            try:
                found.append(read(data, max_duration_s=100).tobytes())
            except AsrError as error:
                found.append(type(error).__name__)
    return found


def with_chunk(data: bytes, chunk: bytes) -> bytes:
    return data[:36] + chunk + data[36:]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(PLAIN, id="plain"),
        pytest.param(wav_of(SAMPLES[:, None]), id="over a minute"),
        pytest.param(with_chunk(PLAIN, b"LIST" + struct.pack("<I", 4) + b"INFO"), id="a list"),
        pytest.param(PLAIN + b"LIST" + struct.pack("<I", 4) + b"INFO", id="a list behind"),
        pytest.param(PLAIN + b"x", id="an odd byte behind"),
        pytest.param(PLAIN[:40] + struct.pack("<I", 0xFFFFFFFF) + PLAIN[44:], id="no length"),
        pytest.param(PLAIN[:40] + struct.pack("<I", 0) + PLAIN[44:], id="length zero"),
        pytest.param(PLAIN[:40] + struct.pack("<I", 9999) + PLAIN[44:], id="an odd length"),
    ],
)
def test_plain_files_give_ffmpegs_samples(data: bytes) -> None:
    assert plain_samples(memoryview(data)) is not None
    direct, ffmpegs = both(data)
    assert direct == ffmpegs


@pytest.mark.parametrize(
    "data",
    [
        wav_of(SAMPLES[:8000].reshape(-1, 2)),
        wav_of(SAMPLES[:8000, None], rate_hz=8000),
        PLAIN[:20] + struct.pack("<H", 3) + PLAIN[22:],
        b"RF64" + PLAIN[4:],
    ],
    ids=["stereo", "8 kHz", "floats", "RF64"],
)
def test_other_files_are_left_to_ffmpeg(data: bytes) -> None:
    assert plain_samples(memoryview(data)) is None


@given(
    at=st.integers(0, 43), value=st.integers(0, 255), n_kept=st.sampled_from((200, 16_036, 16_044))
)
def test_a_damaged_head_gives_the_same_in_both_ways(at: int, value: int, n_kept: int) -> None:
    data = bytearray(PLAIN[:n_kept])
    if at < len(data):
        data[at] = value

    direct, ffmpegs = both(bytes(data))

    assert direct == ffmpegs
