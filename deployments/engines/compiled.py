"""Functions compiled by Numba, cached on disk where there is a place for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """The function in machine code, without the GIL. Compiled at its first call, or read from disk.

    Where neither the package nor the user's cache can be written (a container with a read-only
    file system) it is compiled in every process: a second or so.
    """
    try:
        fast: Any = njit(cache=True, nogil=True)(function)
    except RuntimeError:  # "cannot cache function: no locator available"
        fast = njit(nogil=True)(function)
    return cast(Function, fast)
