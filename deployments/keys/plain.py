"""Keys without a database: in a file, or in the environment variable `PARAFORMER_API_KEYS`.

A line of the file is a key, then what it may do: `sk-pc-... name=tom scopes=transcribe,jobs
max_concurrent=4`. No message of an error shows a key.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from deployments.keys.records import SCOPES, Key, checked_limits, checked_scopes
from deployments.keys.secrets import hash_of, id_of

VARIABLE = "PARAFORMER_API_KEYS"
OTHERS = 0o027  # of a file's mode: its group may read it, and nobody else


def from_environment(environ: Mapping[str, str] = os.environ) -> list[Key]:
    """The keys of the variable, between commas. Raises ValueError."""
    texts = [text.strip() for text in environ.get(VARIABLE, "").split(",")]
    keys = [_key(text, f"{VARIABLE}, key {n}") for n, text in enumerate(texts, 1) if text]
    return _distinct(keys, VARIABLE)


def from_file(path: Path) -> list[Key]:
    """The keys of the file. Raises ValueError, and OSError where it cannot be read."""
    mode = path.stat().st_mode & 0o777
    if mode & OTHERS:
        raise ValueError(f"{path} has mode {mode:o}: others may read or change it. chmod 600 it.")
    lines = path.read_text(encoding="utf-8").splitlines()
    keys = [
        _key(line, f"{path}, line {number}")
        for number, line in enumerate(lines, 1)
        if line.strip() and not line.lstrip().startswith("#")
    ]
    return _distinct(keys, str(path))


def _key(line: str, place: str) -> Key:
    text, *rest = line.split()
    id = id_of(text)
    if id is None:
        raise ValueError(
            f"{place}: this is not a key of the form sk-pc-ID-SECRET. "
            "`python -m deployments.keys make` prints one."
        )
    options: dict[str, str] = {}
    for option in rest:
        name, sign, value = option.partition("=")
        if not sign or name in options or not value:
            raise ValueError(f"{place}: behind the key stands NAME=VALUE, each name once.")
        options[name] = value
    shown, scopes = options.pop("name", id), options.pop("scopes", ",".join(SCOPES))
    try:
        return Key(
            id=id,
            name=shown,
            hash=hash_of(text),
            scopes=checked_scopes(tuple(scopes.split(","))),
            limits=checked_limits(options),
        )
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from None


def _distinct(keys: list[Key], place: str) -> list[Key]:
    if len({key.id for key in keys}) < len(keys):
        raise ValueError(f"{place}: two keys have the same id.")
    return keys
