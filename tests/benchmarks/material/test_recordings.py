"""Recordings made of the sample meeting, and their wav files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.material.recordings import read_audio, shuffled_meeting, wav_bytes


def test_a_recording_has_its_length_and_is_the_same_for_the_same_seed() -> None:
    first, again, other = (shuffled_meeting(30_000, seed=seed) for seed in (1, 1, 2))

    assert len(first) == 30 * 16_000
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_recording_may_be_longer_than_the_meeting() -> None:
    assert len(shuffled_meeting(300_000, seed=1)) == 300 * 16_000


def test_a_wav_file_holds_exactly_its_samples(tmp_path: Path) -> None:
    audio = np.arange(-800, 800, dtype=np.int16)
    path = tmp_path / "a.wav"
    path.write_bytes(wav_bytes(audio))

    assert np.array_equal(read_audio(path), audio)
