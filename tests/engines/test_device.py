"""What an engine refuses before it loads, and what share of a card torch may take."""

from __future__ import annotations

import pytest
import torch

from deployments.core.errors import ModelUnavailable
from deployments.engines.device import CONTEXT_MIB, MIB, ONLY_FP32, allocator_share, prepare
from deployments.engines.protocols import EngineSettings


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (EngineSettings(dtype="fp16"), "does not run in fp16 on 'cpu'"),
        (EngineSettings(device="tpu"), "on 'tpu'"),
    ],
)
def test_what_would_not_really_be_used_is_refused(settings: EngineSettings, reason: str) -> None:
    with pytest.raises(ModelUnavailable, match=reason):
        prepare(settings, ONLY_FP32)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_a_gpu_that_is_not_there_is_an_error_not_a_silent_cpu() -> None:
    with pytest.raises(ModelUnavailable, match="no CUDA device"):
        prepare(EngineSettings(device="cuda"), ONLY_FP32)


def test_the_threads_are_set_whatever_the_environment_says() -> None:
    before = torch.get_num_threads()

    prepare(EngineSettings(num_threads=2), ONLY_FP32)
    threads = torch.get_num_threads()
    torch.set_num_threads(before)

    assert threads == 2


def test_the_context_counts_against_the_fraction() -> None:
    total_bytes = 16_000 * MIB

    share = allocator_share(0.25, total_bytes)

    assert share * total_bytes == pytest.approx((4_000 - CONTEXT_MIB) * MIB)
    assert allocator_share(0.01, total_bytes) == 0.0
