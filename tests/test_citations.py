"""Every decision that the code, the tests and the documents cite is a section of DESIGN.md."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("benchmarks", "clients", "cluster", "deployments", "docs", "tests")
SUFFIXES = {".md", ".py", ".toml", ".yaml"}

HEADINGS = re.findall(r"(?m)^### (.+)$", (ROOT / "DESIGN.md").read_text("utf-8"))
NEXT_LINE = re.compile(r"\n[ \t]*(?:# ?)?")  # with the mark of a comment
CITED = re.compile(r"\bDESIGN, *(\w+(?: \w+)*)")
NUMBERED = re.compile(r"\bDESIGN \d+")


def texts() -> dict[str, str]:
    """Every text of the repository that may cite, each as one line, by its path."""
    inside = [path for room in ROOMS for path in (ROOT / room).rglob("*")]
    paths = [path for path in (*ROOT.iterdir(), *inside) if path.suffix in SUFFIXES]
    return {
        str(path.relative_to(ROOT)): NEXT_LINE.sub(" ", path.read_text("utf-8"))
        for path in sorted(paths)
    }


def unknown(text: str) -> list[str]:
    """The citations in a text that begin with no heading of DESIGN.md."""
    begins = [re.compile(rf"{re.escape(heading)}\b") for heading in HEADINGS]
    return [cited for cited in CITED.findall(text) if not any(b.match(cited) for b in begins)]


def test_every_citation_names_a_section_of_the_design() -> None:
    wrong = {path: unknown(text) for path, text in texts().items()}

    assert {path: cited for path, cited in wrong.items() if cited} == {}


def test_no_citation_is_by_number() -> None:
    numbered = {path: NUMBERED.findall(text) for path, text in texts().items()}

    assert {path: cited for path, cited in numbered.items() if cited} == {}


@pytest.mark.parametrize(
    ("said", "wrong"),
    [
        ("Late chunks).", []),
        ("Pools and what they hold.", []),
        ("Late\n    # chunks).", []),
        ("Late).", ["Late"]),
        ("Poolside.", ["Poolside"]),
    ],
)
def test_a_citation_must_begin_with_a_heading(said: str, wrong: list[str]) -> None:
    text = NEXT_LINE.sub(" ", f"(DESIGN, {said}")

    assert unknown(text) == wrong
