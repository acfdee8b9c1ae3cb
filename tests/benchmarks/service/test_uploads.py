"""The recording that the upload benchmark sends, and how it counts memory."""

from __future__ import annotations

import mmap
import wave
from pathlib import Path

import psutil
import pytest

from benchmarks.service import uploads
from benchmarks.service.uploads import own_mib, silence

MIB = 1024 * 1024


def test_the_recording_is_a_whole_wav_file_that_takes_no_space(tmp_path: Path) -> None:
    path = silence(tmp_path / "a.wav", 50 * MIB)

    with wave.open(str(path), "rb") as sound:
        n_frames = sound.getnframes()

    n_bytes = path.stat().st_size
    assert 0 <= 50 * MIB - n_bytes < 100
    assert n_frames * uploads.CHANNELS * uploads.SAMPLE_BYTES == n_bytes - uploads.HEADER.size
    assert path.stat().st_blocks * 512 < MIB


def test_pages_of_a_file_are_not_a_process_s_own_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "part_of", lambda title: "here")
    path = silence(tmp_path / "a.wav", 50 * MIB)
    before = own_mib([psutil.Process()])["here"]

    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as pages:
        assert pages.find(b"x") == -1  # reads every page
        mapped = own_mib([psutil.Process()])["here"]
        copy = pages[:]
        copied = own_mib([psutil.Process()])["here"]

    assert len(copy) > 49 * MIB
    assert mapped - before < 5
    assert copied - mapped > 25  # other threads of this process may free some meanwhile
