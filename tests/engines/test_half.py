"""Half precision is refused if it gains nothing, as the card's profile or a measurement says."""

from __future__ import annotations

import logging

import pytest
import torch

from deployments.core.errors import ModelUnavailable
from deployments.engines.half import HALF, check, half_speedup
from deployments.engines.protocols import EngineSettings


class Card:
    """A GPU with these seconds for a product; the first of each takes four times as long."""

    def __init__(self, fp32_s: float, half_s: float) -> None:
        self._takes_s = {torch.float32: fp32_s, torch.float16: half_s, torch.bfloat16: half_s}
        self.timed: set[torch.dtype] = set()

    def __call__(self, dtype: torch.dtype) -> float:
        cold = dtype not in self.timed
        self.timed.add(dtype)
        return self._takes_s[dtype] * (4 if cold else 1)


WITH_TENSOR_CORES, WITHOUT = (8e-3, 1e-3), (8e-3, 7.5e-3)


def test_the_first_product_of_each_kind_does_not_count() -> None:
    assert half_speedup("bf16", Card(6e-3, 2e-3)) == pytest.approx(3.0)


@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
def test_a_card_known_for_its_tensor_cores_is_not_timed(dtype: str) -> None:
    card = Card(*WITHOUT)  # a measurement would refuse it

    check(EngineSettings(dtype=dtype), "X", tensor_cores=True, time_product=card)

    assert card.timed == set()


@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
def test_an_unknown_card_is_timed_in_fp32_and_in_the_format_asked_for(dtype: str) -> None:
    card = Card(*WITH_TENSOR_CORES)

    check(EngineSettings(dtype=dtype), "X", tensor_cores=None, time_product=card)

    assert card.timed == {torch.float32, HALF[dtype]}


@pytest.mark.parametrize(
    ("tensor_cores", "reason"),
    [(False, "has no Tensor Cores"), (None, "multiplies in fp16 1.1 times as fast as in fp32")],
)
def test_half_precision_that_gains_nothing_is_refused(
    tensor_cores: bool | None, reason: str
) -> None:
    settings = EngineSettings(dtype="fp16")

    with pytest.raises(ModelUnavailable, match=f"GTX 9 TI.* {reason}; set dtype: fp32"):
        check(settings, "GTX 9 TI", tensor_cores=tensor_cores, time_product=Card(*WITHOUT))


@pytest.mark.parametrize(
    ("tensor_cores", "card", "n_lines"),
    [(None, WITH_TENSOR_CORES, 1), (None, WITHOUT, 0), (True, WITH_TENSOR_CORES, 0)],
)
def test_fp32_runs_anywhere_and_the_log_says_what_an_unknown_card_could_do(
    caplog: pytest.LogCaptureFixture,
    tensor_cores: bool | None,
    card: tuple[float, float],
    n_lines: int,
) -> None:
    with caplog.at_level(logging.WARNING):
        check(EngineSettings(), "X", tensor_cores=tensor_cores, time_product=Card(*card))

    assert len(caplog.records) == n_lines
