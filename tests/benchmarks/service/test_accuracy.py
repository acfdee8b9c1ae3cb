"""The figures of error rates, computed from the texts of both sides."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.service.accuracy import (
    Case,
    Outcome,
    clip_cases,
    figures_of,
    meeting_case,
    of_models,
)


def outcome(reference: str | None, service: str, direct: str) -> Outcome:
    return Outcome(Case(Path("a.wav"), reference), 2.0, service, direct)


def test_equal_texts_on_both_sides_are_said_to_be_equal() -> None:
    figures = figures_of({"clips": [outcome("今天天气", "今天天汽", "今天天汽")]})

    assert figures["pipeline_equals_engine"] == 1
    assert figures["cer_clips"] == figures["cer_clips_direct"] == pytest.approx(0.25)


def test_one_different_mark_makes_the_pipeline_unequal() -> None:
    figures = figures_of({"clips": [outcome("今天", "今天。", "今天")]})

    assert figures["pipeline_equals_engine"] == 0
    assert figures["files_that_differ"] == 1
    assert figures["cer_clips"] == 0.0


def test_a_recording_without_a_reference_has_no_error_rate_but_counts_as_read() -> None:
    figures = figures_of({"demo": [outcome(None, "今天", "明天")]})

    assert "cer_demo" not in figures
    assert figures["files_demo"] == 1
    assert figures["pipeline_equals_engine"] == 0


def test_several_models_stand_side_by_side() -> None:
    small = figures_of({"clips": [outcome("今天天气", "今天天汽", "今天天汽")]})
    tiny = figures_of({"clips": [outcome("今天天气", "今天", "昨天")]})

    both = of_models({"small": small, "tiny": tiny})

    assert (both["cer_clips_small"], both["cer_clips_tiny"]) == (0.25, 0.5)
    assert both["pipeline_equals_engine"] == 0
    assert of_models({"small": small}) == small


def test_nothing_read_is_not_called_equal() -> None:
    assert figures_of({"clips": []})["pipeline_equals_engine"] == 0


def test_clips_are_read_from_their_list(tmp_path: Path) -> None:
    clips = [{"file": "clips/a.wav", "text": "换一首歌"}, {"file": "clips/b.wav", "text": None}]
    (tmp_path / "clips.json").write_text(json.dumps(clips), "utf-8")

    assert clip_cases(tmp_path, limit=1) == [Case(tmp_path / "clips/a.wav", "换一首歌")]
    assert clip_cases(tmp_path, limit=0)[1].reference is None


def test_absent_clips_are_said_and_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert clip_cases(tmp_path, limit=0) == []
    assert "no real clips" in capsys.readouterr().err


def test_the_meeting_has_its_whole_text() -> None:
    reference = meeting_case().reference

    assert reference is not None
    assert reference.startswith("大家早上好，")
