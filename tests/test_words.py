"""No sentence of a document, a docstring or a comment is longer than a reader can hold."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.prose import in_markdown, in_python, n_words

ROOT = Path(__file__).resolve().parent.parent
MAX_WORDS = 35  # the items of a list are not counted


def tracked(*patterns: str) -> list[str]:
    """The repository's files of these patterns, without those written in Chinese."""
    told = subprocess.run(
        ["git", "ls-files", *patterns], cwd=ROOT, capture_output=True, text=True, check=True
    )
    names = told.stdout.split()
    return [name for name in names if "zh" not in Path(name).parts and ".zh-" not in name]


@pytest.mark.parametrize("name", tracked("*.md", "*.py"))
def test_no_sentence_is_too_long(name: str) -> None:
    path = ROOT / name
    found = in_markdown(path) if path.suffix == ".md" else in_python(path)

    too_long = [
        f"{name}:{sentence.line}: {words} words: {sentence.text}"
        for sentence in found
        if (words := n_words(sentence.text)) > MAX_WORDS
    ]

    assert too_long == []


@pytest.mark.parametrize(
    ("sentence", "n"),
    [
        ("One thought.", 2),
        ("`code in backticks` counts [as one](docs/en/index.md).", 4),
        ("It reads wav, flac, mp3, opus, webm, amr and the sound track of mp4.", 10),
        ("First this, then that long and winding thing over there by the river, and that.", 15),
    ],
)
def test_words_are_counted(sentence: str, n: int) -> None:
    assert n_words(sentence) == n
