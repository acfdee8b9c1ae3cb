"""What the README shows of `plan` and `top` is what they print; of `doctor`, rows it can print."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cluster.__main__ import app
from cluster.top_view import Picture
from tests.cluster.test_top import SERVICE, mixed, shown

ROOT = Path(__file__).resolve().parent.parent.parent
READMES = [ROOT / "README.md", ROOT / "README.zh-CN.md"]
TEXT = READMES[0].read_text("utf-8")


def block(beginning: str) -> list[str]:
    """The lines of the one text block that begins so."""
    blocks = re.findall(r"^```text\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    (found,) = [one for one in blocks if one.startswith(beginning)]
    return found.splitlines()


def test_top_prints_what_the_readme_shows_of_made_up_nodes() -> None:
    text = shown(Picture(gpus=mixed(), service=SERVICE), width=100)

    assert block("GPU ") == [line.rstrip() for line in text.rstrip().splitlines()]


def test_plan_begins_as_the_readme_shows() -> None:
    done = CliRunner().invoke(app, ["plan", "--gpus", "T4:4,L4:2,H200:1"])

    shown_lines = block("# Planned for")
    assert done.output.splitlines()[: len(shown_lines)] == shown_lines


@pytest.mark.parametrize("readme", READMES, ids=lambda path: path.name)
def test_the_pictures_are_there_and_none_is_left_over(readme: Path) -> None:
    named = set(re.findall(r"\]\((docs/[^)]+\.png)\)", readme.read_text("utf-8")))

    assert named == {f"docs/{path.name}" for path in (ROOT / "docs").iterdir()}
