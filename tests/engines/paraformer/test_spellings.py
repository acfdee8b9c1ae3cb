"""The dictionary of spellings answers as a `dict` would, in little memory."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from deployments.engines.paraformer.hotwords import Spellings, read_seg_dict

# "plumless" and "buckeroo" have the same CRC-32.
LINES = (
    "hello hel@@ lo\n",
    "\n",
    "魔 魔\n",
    "plumless plum@@ less\n",
    "buckeroo buck@@ eroo\n",
    "double first\n",
    "double second\n",
    "tabs\ta@@\t b\n",
    "alone\n",
    "last l@@ ast",
)
SPELT = {
    "hello": ("hel@@", "lo"),
    "魔": ("魔",),
    "plumless": ("plum@@", "less"),
    "buckeroo": ("buck@@", "eroo"),
    "double": ("second",),
    "tabs": ("a@@", "b"),
    "alone": (),
    "last": ("l@@", "ast"),
}


def many_lines(n_lines: int) -> list[str]:
    return [f"word{i} wo@@ rd@@ {i}\n" for i in range(n_lines)]


def test_every_word_is_spelt_as_its_line_says() -> None:
    assert dict(Spellings(LINES)) == SPELT
    assert len(Spellings(LINES)) == len(SPELT)


@pytest.mark.parametrize("word", ["hell", "", " ", "hel@@", "hello hel@@", "double\n", "\ud800"])
def test_a_word_without_a_line_is_not_found(word: str) -> None:
    assert word not in Spellings(LINES)


def test_an_empty_file_spells_nothing(tmp_path: Path) -> None:
    (tmp_path / "seg_dict").write_text("\n \n", "utf-8")

    assert dict(read_seg_dict(tmp_path / "seg_dict")) == {}


def test_a_large_file_takes_little_more_memory_than_its_size() -> None:
    lines = many_lines(50_000)
    n_bytes = sum(map(len, lines))

    tracemalloc.start()
    spellings = Spellings(lines)
    held_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert spellings["word49999"] == ("wo@@", "rd@@", "49999")
    assert held_bytes < 2 * n_bytes
