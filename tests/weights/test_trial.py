"""`python -m deployments.weights try` compares a model with FunASR's own reading."""

from __future__ import annotations

import shutil
import wave
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from benchmarks.material import random_models
from benchmarks.material.synthetic_audio import voice
from deployments.weights.__main__ import app
from deployments.weights.trial import first_difference, try_model

runner = CliRunner(env={"COLUMNS": "200"})


def run(*arguments: str | Path) -> Result:
    return runner.invoke(app, ["try", *map(str, arguments)])


@pytest.fixture
def vad_dir(tmp_path: Path) -> Path:
    return random_models.write_vad(tmp_path / "vad")


@pytest.mark.parametrize(
    ("ours", "theirs", "at"),
    [
        ("你好hello world", "你 好 hello world", None),
        ("", "", None),
        ("今天，好。", "今天,好。", "word 3"),
        ("一二三", "一二四", "word 3: '一 二 三' here, '一 二 四' in FunASR"),
        ("一二", "一二三", "word 3"),
        ("", "一", "word 1"),
        ("hello world", "helloworld", "word 1"),
        ("900-8950 9000-9100", "900-8950 9000-9110", "word 2"),
    ],
)
def test_the_first_word_that_differs_is_named(ours: str, theirs: str, at: str | None) -> None:
    found = first_difference(ours, theirs)

    assert (found or "").startswith(at or "")
    assert (found is None) == (at is None)


def test_a_directory_that_holds_no_model_is_refused_with_the_reason(tmp_path: Path) -> None:
    result = run(tmp_path)

    assert result.exit_code == 1
    assert "holds no model that is known here" in result.output


def test_a_file_that_is_no_checkpoint_is_refused_with_the_reason(vad_dir: Path) -> None:
    shutil.copy(vad_dir / "config.yaml", vad_dir / "model.pt")

    result = run(vad_dir)

    assert result.exit_code == 1
    assert "model.pt is not a torch checkpoint" in result.output


def test_a_recording_that_cannot_be_read_is_refused_with_the_reason(
    vad_dir: Path, tmp_path: Path
) -> None:
    (tmp_path / "a.wav").write_bytes(b"no sound")

    result = run(vad_dir, "--recording", tmp_path / "a.wav")

    assert result.exit_code == 1
    assert "Traceback" not in result.output
    assert "is a text file" in result.output


@pytest.mark.slow
def test_both_texts_and_their_cost_are_shown(vad_dir: Path) -> None:
    result = run(vad_dir)

    assert result.exit_code == 0
    assert "here: 900-8950 " in result.output
    assert "FunASR: 900-8950 " in result.output
    assert "times real time" in result.output
    assert "Both texts are equal." in result.output


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["asr", "punctuation"])
def test_models_of_the_other_stages_read_as_in_funasr(
    tmp_path: Path, wav: Path, stage: str
) -> None:
    write = {"asr": random_models.write_paraformer, "punctuation": random_models.write_punctuation}

    ours, funasr = try_model(write[stage](tmp_path / stage), wav, threads=1)

    assert not isinstance(funasr, str)
    assert len(ours.text) > 20
    assert first_difference(ours.text, funasr.text) is None
    assert ours.peak_mib > 100


@pytest.fixture
def wav(tmp_path: Path) -> Path:
    path = tmp_path / "voice.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(voice(30_000, seed=1).tobytes())
    return path
