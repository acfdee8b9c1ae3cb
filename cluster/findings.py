"""One line of `doctor`'s report, and how its sentences are written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Level: TypeAlias = Literal["green", "yellow", "red"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report. Green needs no remedy."""

    check: str
    level: Level
    what: str
    remedy: str = ""


def dotted(version: tuple[int, int] | None) -> str:
    """(12, 4) -> 12.4."""
    return ".".join(map(str, version)) if version else "?"


def sentence(text: str) -> str:
    """With a capital and one full stop, whoever wrote it."""
    return text[:1].upper() + text[1:].rstrip(".") + "."


def counted(number: float, noun: str) -> str:
    """1 node, 2 nodes."""
    return f"{number:g} {noun}" + ("" if number == 1 else "s")
