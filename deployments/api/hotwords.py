"""Hotwords as clients write them: one a field, several in a field, or FunASR's with weights."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from deployments.core.errors import BadRequest

WORD = re.compile(r"[^\s,，、;；]+")
NUMBER = re.compile(r"-?\d+(\.\d+)?", re.ASCII)


def read_hotwords(sent: Sequence[tuple[str, str]]) -> tuple[tuple[str, ...], bool]:
    """The hotwords of the fields, and whether any of them came with a weight.

    `sent` are names and values. `hotwords[]` is one hotword; `hotwords` is several, divided by
    spaces or commas. The value of either may be a JSON list or FunASR's `{"word": weight}`.
    Raises BadRequest.
    """
    hotwords: list[str] = []
    weighted = False
    for name, value in sent:
        parsed = _from_json(name, value)
        if parsed is not None:
            words, has_weights = list(parsed), isinstance(parsed, dict)
        elif name.endswith("]"):
            words, has_weights = [value], False
        else:
            words, has_weights = _without_weights(WORD.findall(value))
        hotwords += words
        weighted |= has_weights
    return tuple(hotwords), weighted


def _from_json(name: str, value: str) -> dict[str, Any] | list[str] | None:
    """The JSON object or the list of texts. None if the value is something else."""
    is_object = value.lstrip().startswith("{")
    if not is_object and not value.lstrip().startswith("["):
        return None
    try:
        parsed = json.loads(value)
    except (ValueError, RecursionError):
        if is_object:
            raise BadRequest(f"{name} is not whole JSON.", "hotwords") from None
        return None  # a word in brackets
    if isinstance(parsed, list) and not all(isinstance(word, str) for word in parsed):
        raise BadRequest(f"{name} must be a list of texts.", "hotwords")
    assert isinstance(parsed, dict | list)
    return parsed


def _without_weights(words: Sequence[str]) -> tuple[list[str], bool]:
    """The words without the number behind each, as in FunASR's files: `阿里巴巴 20`."""
    numbers = [NUMBER.fullmatch(word) is not None for word in words]
    weights = [number and i > 0 and not numbers[i - 1] for i, number in enumerate(numbers)]
    kept = [word for word, is_weight in zip(words, weights, strict=True) if not is_weight]
    return kept, any(weights)
