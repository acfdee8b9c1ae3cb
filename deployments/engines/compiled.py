"""Functions compiled by Numba, cached on disk where a directory is writable."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """The function as machine code that runs without the GIL.

    It is compiled at the first call, or read from the cache on disk. In a container with a
    read-only file system neither the package's nor the user's cache can be written. Every process
    then compiles the function again, which takes about a second.
    """
    try:
        fast: Any = njit(cache=True, nogil=True)(function)
    except RuntimeError:  # "cannot cache function: no locator available"
        fast = njit(nogil=True)(function)
    return cast(Function, fast)
