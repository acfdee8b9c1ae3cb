"""The settings that an engine refuses before it loads, and torch's share of a card."""

from __future__ import annotations

import weakref

import pytest
import torch

from deployments.core.errors import EngineFailed, ModelUnavailable, OutOfMemory
from deployments.engines.device import (
    CONTEXT_MIB,
    MIB,
    ONLY_FP32,
    allocator_share,
    context_bytes,
    prepare,
    translated,
)
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

    share = allocator_share(0.25, total_bytes, 450 * MIB)

    assert share * total_bytes == pytest.approx((4_000 - 450) * MIB)
    assert allocator_share(0.01, total_bytes, 450 * MIB) == 0.0


@pytest.mark.parametrize(
    ("free_mib", "reserved_mib", "expected_mib"),
    [
        (14_500, 1_000, 500),  # alone on the card
        (
            13_600,
            1_000,
            CONTEXT_MIB,
        ),  # a small process beside this one does not count as context
        (8_000, 1_000, CONTEXT_MIB),  # a large process beside this one: the figure is useless
        (15_950, 0, CONTEXT_MIB),  # less than any context: the figure cannot be complete
    ],
)
def test_the_context_is_what_the_card_has_given_beside_the_allocator(
    free_mib: int, reserved_mib: int, expected_mib: int
) -> None:
    context = context_bytes(16_000 * MIB, free_mib * MIB, reserved_mib * MIB)

    assert context == expected_mib * MIB


class Held:
    """Stands for the tensors of a batch."""


def test_memory_is_freed_once_the_failed_batch_has_let_go_of_it() -> None:
    held: list[weakref.ref[Held]] = []
    alive_when_freed: list[bool] = []

    def inner(batch: Held) -> None:
        raise torch.OutOfMemoryError("full")

    @translated("A model", free=lambda: alive_when_freed.append(held[0]() is not None))
    def work() -> None:
        batch = Held()
        held.append(weakref.ref(batch))
        inner(batch)

    with pytest.raises(OutOfMemory, match="A model: the batch does not fit"):
        work()

    assert alive_when_freed == [False]


@pytest.mark.parametrize(
    "said",
    ["CUDA error: out of memory", "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `create`"],
)
def test_memory_that_is_short_outside_torchs_allocator_is_memory_too(said: str) -> None:
    freed: list[int] = []

    @translated("A model", free=lambda: freed.append(1))
    def work() -> None:
        raise RuntimeError(said)

    with pytest.raises(OutOfMemory, match="A model: the batch does not fit"):
        work()

    assert freed == [1]


def test_any_other_error_of_torch_frees_nothing() -> None:
    freed: list[int] = []

    @translated("A model", free=lambda: freed.append(1))
    def work() -> None:
        torch.zeros(2) @ torch.zeros(3)

    with pytest.raises(EngineFailed, match="A model failed") as failed:
        work()

    assert not isinstance(failed.value, OutOfMemory)
    assert freed == []
