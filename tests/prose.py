"""The sentences of documents, docstrings and comments, each with the line where it begins."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

END_OF_SENTENCE = re.compile(r"(?<=[.!?])[\"')*_]*\s+(?=[\"'`(*_\[]*[A-Z0-9`])")
ABBREVIATION = re.compile(r"\b(e\.g|i\.e|vs|cf|etc|no|fig)\.$", re.IGNORECASE)
LIST_ITEM_WORDS = 6  # a piece between two commas that is no longer than this is an item of a list
NEW_TEXT = re.compile(r"^\s*([-*+]|\d+\.|#+|>|\|)\s")


class Sentence(NamedTuple):
    """One sentence and the line of its file on which its paragraph begins."""

    line: int
    text: str


def n_words(sentence: str) -> int:
    """Words of a sentence; code in backticks counts as one, and so do the items of a list."""
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", sentence)
    plain = re.sub(r"`[^`]*`|\bhttps?://\S+", "code", plain)
    pieces = [piece.split() for piece in re.split(r"[,;]", plain)]
    items = [0 < i < len(pieces) - 1 and len(p) <= LIST_ITEM_WORDS for i, p in enumerate(pieces)]
    return sum(
        len(piece)
        for i, piece in enumerate(pieces)
        if not (items[i] and (items[i - 1] or items[i + 1]))
    )


def sentences(text: str) -> Iterator[str]:
    """The sentences of one paragraph."""
    begun = ""
    for part in END_OF_SENTENCE.split(" ".join(text.split())):
        begun = f"{begun} {part}".strip()
        if not ABBREVIATION.search(begun):
            yield begun
            begun = ""
    if begun:
        yield begun


def in_markdown(path: Path) -> Iterator[Sentence]:
    """Those outside code blocks. A list item, a heading and a table's cell are paragraphs."""
    fenced = False
    line, text = 0, ""
    for number, raw in enumerate([*path.read_text("utf-8").splitlines(), ""], 1):
        fence = raw.lstrip().startswith(("```", "~~~"))
        if fence or fenced or not raw.strip() or NEW_TEXT.match(raw) or raw.startswith("|"):
            yield from (Sentence(line, one) for one in sentences(text))
            text = ""
        fenced ^= fence
        if fence or fenced:
            continue
        if raw.startswith("|"):
            for cell in raw.strip("|").split("|"):
                yield from (Sentence(number, one) for one in sentences(cell))
            continue
        line = line if text else number
        text = f"{text} {NEW_TEXT.sub('', raw)}"


def in_python(path: Path) -> Iterator[Sentence]:
    """Those of the docstrings and of the comments; indented lines of a docstring are code."""
    source = path.read_text("utf-8")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node)
            if docstring:
                yield from _of_docstring(node.body[0].lineno, docstring)
    yield from _of_comments(source)


def _of_docstring(first_line: int, docstring: str) -> Iterator[Sentence]:
    line, text = first_line, ""
    for number, raw in enumerate([*docstring.splitlines(), ""], first_line):
        ends = not raw.strip() or raw.startswith("    ") or NEW_TEXT.match(raw)
        if ends:
            yield from (Sentence(line, one) for one in sentences(text))
            text = ""
        if not raw.startswith("    ") and raw.strip():
            line = line if text else number
            text = f"{text} {NEW_TEXT.sub('', raw)}"


def _of_comments(source: str) -> Iterator[Sentence]:
    line, column, last, text = 0, 0, -1, ""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT:
            continue
        number, at = token.start
        said = token.string.lstrip("#! ")
        if (number, at) != (last + 1, column):
            yield from (Sentence(line, one) for one in sentences(text))
            line, text = number, ""
        text, last, column = f"{text} {said}", number, at
    yield from (Sentence(line, one) for one in sentences(text))
