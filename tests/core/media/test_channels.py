"""Channels that cancel each other in a mix are not mixed."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from deployments.core.media.decode import decode
from deployments.core.types import Audio
from tests.core.media.encode import encode, sine, upload, wav_of

TONE = sine(440, rate_hz=16_000, n_samples=80_000)
OTHER = sine(700, rate_hz=16_000, n_samples=80_000)
QUIET = np.zeros_like(TONE)


def part(share: float) -> NDArray[np.int16]:
    """The tone, turned round after the first `share` of it."""
    return np.where(np.arange(TONE.size) < share * TONE.size, TONE, -TONE).astype(np.int16)


def stacked(*channels: NDArray[np.generic]) -> NDArray[np.int16]:
    return np.stack([channel.astype(np.int16) for channel in channels])


CANCELLING = {
    "right = -left": (stacked(TONE, -TONE), 0),
    "right = -0.9 left": (stacked(TONE, -0.9 * TONE), 0),
    "left = -0.9 right": (stacked(-0.9 * TONE, TONE), 1),
    "in the last three seconds": (stacked(TONE, part(0.4)), 0),
    "with a little noise": (
        stacked(TONE, -TONE + np.random.default_rng(0).normal(0, 30, TONE.size)),
        1,
    ),
}
MIXED = {
    "the same": stacked(TONE, TONE),
    "one is silent": stacked(TONE, QUIET),
    "one is much quieter": stacked(TONE, -0.1 * TONE),
    "two voices": stacked(TONE, OTHER),
    "silence": stacked(QUIET, QUIET),
    "hardly audible": stacked(TONE // 16_000, -(TONE // 16_000)),
    "one of six": stacked(*[QUIET] * 5, TONE),
}
FILES = [
    ("wav", "pcm_s16le"),
    ("flac", "flac"),
    ("wav", "pcm_u8"),
    ("wav", "pcm_f32le"),
    ("mp3", "libmp3lame"),
]


def heard(data: bytes, channel: int | None = None) -> tuple[Audio, list[str]]:
    warnings: list[str] = []
    audio = decode(upload(data), channel=channel, max_duration_s=60, warn=warnings.append)
    return audio, warnings


@pytest.mark.parametrize("case", CANCELLING)
@pytest.mark.parametrize(("container", "codec"), FILES)
def test_the_louder_channel_is_taken_and_named(case: str, container: str, codec: str) -> None:
    channels, louder = CANCELLING[case]
    data = encode(channels, rate_hz=16_000, container=container, codec=codec)

    audio, warnings = heard(data)

    assert np.abs(audio[1000:-3000].astype(int)).reshape(-1, 100).max(axis=1).min() > 10_000
    assert len(warnings) == 1
    assert "channels cancel each other" in warnings[0]
    if "noise" not in case and codec != "pcm_u8":
        np.testing.assert_array_equal(audio, heard(data, channel=louder)[0])


@pytest.mark.parametrize("case", MIXED)
def test_channels_that_do_not_cancel_are_mixed(case: str) -> None:
    channels = MIXED[case]

    audio, warnings = heard(wav_of(np.ascontiguousarray(channels.T)))

    np.testing.assert_allclose(audio, channels.mean(axis=0), atol=1)
    assert not warnings


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_the_louder_channel_takes_memory_that_was_asked_for(share: float) -> None:
    """The mix of channels that cancel is silent and takes none, or only where they do not."""
    minutes = [np.tile(channel, 36) for channel in (TONE, part(share))]  # three of them
    asked_s: list[float] = []

    data = upload(wav_of(np.stack(minutes, axis=1)))
    decode(data, channel=None, max_duration_s=600, admit=asked_s.append)

    assert sum(asked_s) == 180


def test_a_channel_that_was_asked_for_is_read_whatever_the_others_hold() -> None:
    audio, warnings = heard(wav_of(np.stack([TONE, -TONE], axis=1)), channel=1)

    np.testing.assert_array_equal(audio, -TONE)
    assert not warnings


@pytest.mark.parametrize(("container", "codec"), [("flac", "flac"), ("wav", "pcm_s16le")])
@pytest.mark.parametrize("n_channels", [7, 8])
def test_many_channels_are_read_safely(container: str, codec: str, n_channels: int) -> None:
    channels = stacked(*[QUIET] * (n_channels - 1), TONE)
    data = encode(channels, rate_hz=16_000, container=container, codec=codec)

    audio, _ = heard(data)

    np.testing.assert_allclose(audio, channels.mean(axis=0), atol=1)
