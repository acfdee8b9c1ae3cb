"""Fills a new model with weights piece by piece, so that it is never in memory twice.

A model is built `WithoutValues`: its layers are on torch's meta device and take no memory. `fill`
gives a layer its weights. Between two pieces an `Adapt` may replace the layers that are filled by
smaller ones.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

PIECE_BYTES = 128 * 1024 * 1024  # of weights that are in memory twice; the file is opened for each
Adapt = Callable[[torch.nn.Module], None]


def as_it_is(model: torch.nn.Module) -> None:
    """The `adapt` of a model whose layers stay as FunASR made them."""


class WithoutValues(TorchFunctionMode):
    """New layers get neither memory nor random values, because loading replaces them at once.

    `with torch.device("meta")` would do the same, but some calls in FunASR's constructors would
    then import torch's compiler, which takes 1 s.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        if func is torch.empty:
            return func(*args, **{**given, "device": "meta"})
        if getattr(func, "__module__", None) == "torch.nn.init":
            return given["tensor"] if "tensor" in given else args[0]
        return func(*args, **given)


def fill(layer: torch.nn.Module, name: str, stored: dict[str, Tensor]) -> None:
    """Gives the layer its weights, which are taken out of `stored` and copied."""
    own = {
        key: torch.empty(weight.shape, dtype=weight.dtype).copy_(
            stored.pop(f"{name}.{key}".lstrip(".")).detach()
        )
        for key, weight in weights_of(layer)
    }
    layer.load_state_dict(own, strict=False, assign=True)


def pieces(model: torch.nn.Module, piece_bytes: int) -> list[list[str]]:
    """The names of all layers in order, in pieces of about `piece_bytes` of weights.

    They are names because a reference to a layer would keep its weights after it is replaced.
    """
    made, n_bytes = [list[str]()], 0
    for name, layer in model.named_modules():
        if n_bytes >= piece_bytes:
            made.append([])
            n_bytes = 0
        made[-1].append(name)
        n_bytes += sum(weight.nbytes for _, weight in weights_of(layer))
    return made


def give_memory_back() -> None:
    """Returns freed memory to the system, where the C library is glibc.

    glibc keeps freed blocks of up to 32 MB for later use. Between the smaller layers that stay,
    they add up to 300 MiB in some runs (measured).
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def weights_of(layer: torch.nn.Module) -> list[tuple[str, Tensor]]:
    """The weights that a checkpoint holds for this layer, without the layers inside it."""
    computed = layer._non_persistent_buffers_set
    buffers = [(key, b) for key, b in layer.named_buffers(recurse=False) if key not in computed]
    return [*layer.named_parameters(recurse=False), *buffers]
