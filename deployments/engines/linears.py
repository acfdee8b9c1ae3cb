"""Linear layers in the form that the CPU computes fastest."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


class PrepackedLinear(nn.Module):
    """A float32 linear layer whose weights oneDNN has laid out beforehand, once.

    15 to 30 % faster than `nn.Linear` on the few hundred rows of a CPU's batch (measured), which
    lays them out at every call.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.out_features = linear.out_features
        self._weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), None)
        self._bias = None if linear.bias is None else linear.bias.detach()

    def forward(self, x: Tensor) -> Tensor:
        rows: Tensor = torch.ops.mkldnn._linear_pointwise(
            x, self._weight, self._bias, "none", [], ""
        )
        return rows


def replace_linears(module: nn.Module, make: Callable[[nn.Linear], nn.Module]) -> None:
    """Puts `make(linear)` in the place of every `nn.Linear` inside the module."""
    for name, child in module.named_children():
        if type(child) is nn.Linear:
            setattr(module, name, make(child))
        else:
            replace_linears(child, make)
