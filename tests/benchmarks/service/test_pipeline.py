"""How service and baseline are compared: turns, ratios, recordings, the baseline's directories."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from benchmarks.service.funasr_server import ASR, PUNCTUATION, VAD, lay_out
from benchmarks.service.one_process import OneProcess
from benchmarks.service.pipeline import Pair, distinct_recordings, in_turns, lengths_of
from deployments.config import Models

FAKES = Models(vad="fake:vad", asr="fake:asr", punctuation="fake:punctuation")


def test_the_ratio_is_the_median_over_neighbouring_rounds() -> None:
    assert Pair(ours_s=[2.0, 9.0, 3.0], theirs_s=[1.0, 9.0, 2.0]).ratio == pytest.approx(1.5)


def test_the_sides_take_turns() -> None:
    done: list[str] = []

    pair = in_turns(lambda: done.append("a"), lambda: done.append("b"), repeats=2)

    assert done == ["a", "b", "a", "b"]
    assert len(pair.ours_s) == len(pair.theirs_s) == 2


def model_dir(root: Path, stage: str) -> Path:
    """A model directory whose two files hold the stage's name."""
    made = root / stage
    made.mkdir()
    (made / "config.yaml").write_text(f"model: {stage}\n", "utf-8")
    (made / "model.pt").write_bytes(stage.encode())
    return made


def test_the_baseline_gets_the_same_files_and_its_number_of_threads(tmp_path: Path) -> None:
    dirs = {stage: model_dir(tmp_path, stage) for stage in ("vad", "asr", "punctuation")}

    lay_out(tmp_path / "server", **dirs, num_threads=3)

    placed = [(tmp_path / "server" / place / "model.pt").read_bytes() for place in (VAD, ASR)]
    config = yaml.safe_load((tmp_path / "server" / ASR / "config.yaml").read_text("utf-8"))
    assert placed == [b"vad", b"asr"]
    assert (tmp_path / "server" / PUNCTUATION / "model.pt").read_bytes() == b"punctuation"
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


def test_the_same_recordings_are_drawn_every_time_and_their_lengths_are_figures() -> None:
    audios, again = distinct_recordings(2, (2, 9)), distinct_recordings(2, (2, 9))

    assert all(map(np.array_equal, audios, again))
    assert lengths_of(audios) == {
        "shortest_s_2": min(map(len, audios)) / 16_000,
        "longest_s_2": max(map(len, audios)) / 16_000,
    }
