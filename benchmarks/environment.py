"""Environment variables for what a benchmark starts, and for nothing after it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager


@contextmanager
def environment(defaults: Mapping[str, str]) -> Iterator[None]:
    """Sets the variables that are not set, for what is started meanwhile."""
    missing = [name for name in defaults if name not in os.environ]
    os.environ.update({name: defaults[name] for name in missing})
    try:
        yield
    finally:
        for name in missing:
            os.environ.pop(name, None)
