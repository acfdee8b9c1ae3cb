"""One line of the report that `doctor` prints, and helpers that write its sentences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Level: TypeAlias = Literal["green", "yellow", "red"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report. A green finding needs no remedy."""

    check: str
    level: Level
    what: str
    remedy: str = ""


def dotted(version: tuple[int, int] | None) -> str:
    """(12, 4) -> 12.4."""
    return ".".join(map(str, version)) if version else "?"


def sentence(text: str) -> str:
    """The text with a capital first letter and one full stop."""
    return text[:1].upper() + text[1:].rstrip(".") + "."


def counted(number: float, noun: str) -> str:
    """1 node, 2 nodes."""
    return f"{number:g} {noun}" + ("" if number == 1 else "s")
