"""The length of a recording is read from its head, without decoding it."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.material.recordings import wav_bytes
from benchmarks.material.synthetic_audio import voice
from deployments.core.media.announced import announced_ms
from tests.core.media.encode import encode

SOUND = voice(3000, seed=1)


@pytest.mark.parametrize(
    ("container", "codec"),
    [("mp3", "libmp3lame"), ("flac", "flac"), ("ogg", "libopus"), ("mp4", "aac")],
)
def test_a_file_announces_its_length(container: str, codec: str) -> None:
    data = encode(SOUND[None], rate_hz=16_000, container=container, codec=codec)

    found = announced_ms(np.frombuffer(data, np.uint8))

    assert found == pytest.approx(3000, abs=150)


def test_a_wav_file_announces_its_length() -> None:
    assert announced_ms(np.frombuffer(wav_bytes(SOUND), np.uint8)) == 3000


@pytest.mark.parametrize(
    "data", [b"", b"no sound at all", b"RIFF\xff\xff\xff\xffWAVE", b"#EXTM3U\n"]
)
def test_what_is_no_recording_announces_nothing(data: bytes) -> None:
    assert announced_ms(np.frombuffer(data, np.uint8)) is None
