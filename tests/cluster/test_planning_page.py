"""The output of `plan` and `top` on the page of planning is what these commands print."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cluster.__main__ import app
from cluster.watch.tables import Picture
from tests.cluster.watch.test_command import SERVICE, mixed, shown

ROOT = Path(__file__).resolve().parent.parent.parent
TEXT = (ROOT / "docs" / "en" / "planning.md").read_text("utf-8")  # the Chinese page shows the same


def block(beginning: str) -> list[str]:
    """The lines of the one text block that begins so."""
    blocks = re.findall(r"^```text\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    (found,) = [one for one in blocks if one.startswith(beginning)]
    return found.splitlines()


def test_top_prints_what_the_page_shows_of_made_up_nodes() -> None:
    text = shown(Picture(gpus=mixed(), service=SERVICE), width=100)

    assert block("GPU ") == [line.rstrip() for line in text.rstrip().splitlines()]


@pytest.mark.parametrize(
    ("options", "beginning"),
    [
        (["--gpus", "T4:4,L4:2,H200:1"], "# Planned for T4:4,L4:2,H200:1."),
        (
            ["--cheapest", "--hours-per-day", "500", "--p95-s", "60", "--recording-min", "30"],
            "# Planned for (",
        ),
    ],
)
def test_plan_begins_as_the_page_shows(options: list[str], beginning: str) -> None:
    done = CliRunner().invoke(app, ["plan", *options])

    shown_lines = block(beginning)
    assert done.output.splitlines()[: len(shown_lines)] == shown_lines
