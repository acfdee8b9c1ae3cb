"""How the comparison is made: turns, ratios, recordings, the baseline's directories."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from benchmarks.funasr_server import ASR, PUNCTUATION, VAD, lay_out
from benchmarks.one_process import OneProcess
from benchmarks.pipeline import Pair, distinct_recordings, in_turns, lengths_of
from benchmarks.recordings import read_audio, shuffled_meeting, wav_bytes
from benchmarks.served import cpu_pool
from deployments.config import Models

FAKES = Models(vad="fake:vad", asr="fake:asr", punctuation="fake:punctuation")


def test_the_ratio_is_the_median_over_neighbouring_rounds() -> None:
    assert Pair(ours_s=[2.0, 9.0, 3.0], theirs_s=[1.0, 9.0, 2.0]).ratio == pytest.approx(1.5)


def test_the_sides_take_turns() -> None:
    done: list[str] = []

    pair = in_turns(lambda: done.append("a"), lambda: done.append("b"), repeats=2)

    assert done == ["a", "b", "a", "b"]
    assert len(pair.ours_s) == len(pair.theirs_s) == 2


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


@pytest.mark.parametrize(("n_replicas", "n_each"), [(1, 4), (2, 2), (4, 1)])
def test_replicas_share_the_threads(n_replicas: int, n_each: int) -> None:
    pool = cpu_pool(4, n_replicas)

    assert (pool.min_replicas, pool.max_replicas) == (n_replicas, n_replicas)
    assert pool.num_threads == n_each


def test_the_baseline_gets_the_same_files_and_its_number_of_threads(tmp_path: Path) -> None:
    for stage in ("vad", "asr", "punc"):
        (tmp_path / stage).mkdir()
        (tmp_path / stage / "config.yaml").write_text(f"model: {stage}\n", "utf-8")
        (tmp_path / stage / "model.pt").write_bytes(stage.encode())
    dirs = {"vad": tmp_path / "vad", "asr": tmp_path / "asr", "punctuation": tmp_path / "punc"}

    lay_out(tmp_path / "server", **dirs, num_threads=3)

    placed = [(tmp_path / "server" / place / "model.pt").read_bytes() for place in (VAD, ASR)]
    config = yaml.safe_load((tmp_path / "server" / ASR / "config.yaml").read_text("utf-8"))
    assert placed == [b"vad", b"asr"]
    assert (tmp_path / "server" / PUNCTUATION / "model.pt").read_bytes() == b"punc"
    assert config == {"model": "asr", "ncpu": 3}
    assert (tmp_path / "asr" / "config.yaml").read_text("utf-8") == "model: asr\n"


def test_one_process_hears_every_segment_and_punctuates() -> None:
    tone = (8000 * np.sin(np.arange(32_000) * 0.3)).astype(np.int16)
    silence = np.zeros(32_000, np.int16)
    direct = OneProcess(FAKES, num_threads=1, batch_audio_s=30)

    heard = direct.transcribe(np.concatenate([silence, tone, silence, tone, silence]))

    assert [segment.error for segment in heard.segments] == [None, None]
    assert heard.text[-1] in "。，？"
    assert heard.padded_ms > 0


def test_one_process_hears_nothing_in_silence() -> None:
    direct = OneProcess(FAKES, num_threads=1, batch_audio_s=30)

    assert direct.transcribe(np.zeros(48_000, np.int16)).text == ""


def test_the_recordings_of_many_clients_differ_and_lie_between_the_lengths() -> None:
    lengths_s = [len(audio) / 16_000 for audio in distinct_recordings(8, (60, 300))]

    assert len(set(lengths_s)) == 8
    assert 60 <= min(lengths_s) < 120
    assert 240 < max(lengths_s) <= 300


def test_the_same_recordings_are_drawn_every_time_and_said() -> None:
    audios, again = distinct_recordings(2, (2, 9)), distinct_recordings(2, (2, 9))

    assert all(map(np.array_equal, audios, again))
    assert lengths_of(audios) == {
        "shortest_s_2": min(map(len, audios)) / 16_000,
        "longest_s_2": max(map(len, audios)) / 16_000,
    }
