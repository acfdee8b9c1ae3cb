"""Linear layers in other forms have the results of `nn.Linear`."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from deployments.engines.paraformer.linears import PrepackedLinear, replace_linears


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 48), (133, 48), (2, 7, 48)])
def test_a_prepacked_layer_computes_the_same(bias: bool, shape: tuple[int, ...]) -> None:
    linear = nn.Linear(48, 80, bias=bias)
    x = torch.randn(shape)

    with torch.inference_mode():
        torch.testing.assert_close(PrepackedLinear(linear)(x), linear(x))


def test_every_linear_layer_is_replaced_however_deep_and_nothing_else() -> None:
    inner = nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8))
    module = nn.Sequential(inner, nn.ReLU(), nn.Linear(8, 2))

    replace_linears(module, PrepackedLinear)

    kinds = [type(inner[0]), type(inner[1]), type(module[1]), type(module[2])]
    assert kinds == [PrepackedLinear, nn.LayerNorm, nn.ReLU, PrepackedLinear]
