"""Languages by the names that people give them."""

from __future__ import annotations

NAMES = {"chinese": "zh", "mandarin": "zh", "cmn": "zh", "english": "en"}


def language_code(name: str) -> str:
    """ISO 639-1 where it can be told: "zh-CN" and "Chinese" are "zh"; else the name itself."""
    code = name.strip().lower().replace("_", "-").split("-")[0]
    return NAMES.get(code, code)
