"""Figures are flat, and a section of RESULTS.md says how to repeat the measurement."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from pathlib import Path

import pytest

from benchmarks.results import (
    HEADER,
    Circumstances,
    append,
    check_flat,
    circumstances,
    section,
    shown,
)

MADE = Circumstances(
    when=datetime(2026, 3, 12, 9, 30, tzinfo=UTC),
    commit="abc1234",
    machine="a CPU, 2 cores",
    versions={"ray": "2.60.0", "torch": "2.13.0"},
    load_1min=0.25,
)


def test_numbers_and_texts_are_figures() -> None:
    figures = {"wall_s": 1.5, "n_segments": 3, "size": "tiny"}

    assert check_flat(figures) == figures


@pytest.mark.parametrize("value", [{"a": 1}, [1.0], None, math.nan, math.inf])
def test_anything_else_is_refused_by_name(value: object) -> None:
    with pytest.raises(ValueError, match="wall_s"):
        check_flat({"wall_s": value})


@pytest.mark.parametrize(
    ("value", "text"), [(1.23456, "1.235"), (2.0, "2"), (0.0, "0"), (7, "7"), ("tiny", "tiny")]
)
def test_figures_are_shown_with_three_decimals_at_most(value: float | str, text: str) -> None:
    assert shown(value) == text


def test_a_section_says_when_where_and_how() -> None:
    text = section("long", ["python", "-m", "benchmarks", "long"], {"wall_s": 2.5}, MADE, "An hour")

    assert "## 2026-03-12 09:30 long" in text
    assert "abc1234" in text
    assert "a CPU, 2 cores, load 0.25" in text
    assert "torch 2.13.0" in text
    assert "`python -m benchmarks long`" in text
    assert "| wall_s | 2.5 |" in text


def test_sections_are_added_below_one_header(tmp_path: Path) -> None:
    results = tmp_path / "RESULTS.md"

    append("\n## first\n", results)
    append("\n## second\n", results)

    assert results.read_text("utf-8") == f"{HEADER}\n## first\n\n## second\n"


def test_the_circumstances_of_now_are_known() -> None:
    made = circumstances()

    assert made.when.tzinfo is not None
    assert "cores" in made.machine
    assert made.versions["torch"].startswith("2.")
