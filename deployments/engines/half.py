"""Checks that half precision makes a GPU faster. Some cards support it and gain nothing."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from statistics import median

import torch

from deployments.core.errors import ModelUnavailable
from deployments.engines.protocols import EngineSettings

logger = logging.getLogger("ray.serve")

# GTX 16xx and Pascal cards multiply in fp16 with float32 sums about as fast as in fp32. The
# smallest gain of Tensor Cores is about 2, on GeForce cards. From data sheets: 2.0 (RTX 3090),
# 8 (T4).
LEAST_SPEEDUP = 1.5
SIDE = 4096
ROUNDS = 5
HALF = {"fp16": torch.float16, "bf16": torch.bfloat16}

TimeProduct = Callable[[torch.dtype], float]  # returns the seconds of one matrix product


def time_on_gpu(dtype: torch.dtype) -> float:
    """Seconds of one product of two large matrices of `dtype`. float32 is not computed in TF32."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        square = torch.ones(SIDE, SIDE, dtype=dtype, device="cuda")
        torch.cuda.synchronize()
        began_s = time.perf_counter()
        torch.mm(square, square)
        torch.cuda.synchronize()
        return time.perf_counter() - began_s
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def check(
    settings: EngineSettings,
    card: str,
    *,
    tensor_cores: bool | None,
    time_product: TimeProduct = time_on_gpu,
) -> None:
    """Raises ModelUnavailable if half precision is asked for and would gain nothing.

    `tensor_cores` says whether the card has Tensor Cores. If that is not known (None), a
    measurement decides. If the settings ask for fp32 on such an unknown card, the log says how
    much faster half precision would be.
    """
    wants_half = settings.dtype in HALF
    said = "has no Tensor Cores"
    if tensor_cores is None:
        dtype = settings.dtype if wants_half else "fp16"
        speedup = half_speedup(dtype, time_product)
        tensor_cores = is_real(speedup)
        said = f"multiplies in {dtype} {speedup:.1f} times as fast as in fp32"
        if tensor_cores and not wants_half:
            logger.warning("This GPU (%s) %s: dtype: %s would use it.", card, said, dtype)
    if wants_half and not tensor_cores:
        raise ModelUnavailable(settings.name, f"this GPU ({card}) {said}; set dtype: fp32.")


def half_speedup(dtype: str, time_product: TimeProduct) -> float:
    """The speed of a matrix product in `dtype` over fp32, from medians after a warm-up."""
    halves, singles = list[float](), list[float]()
    for each in (torch.float32, HALF[dtype]):
        time_product(each)
    for _ in range(ROUNDS):
        singles.append(time_product(torch.float32))
        halves.append(time_product(HALF[dtype]))
    return median(singles) / median(halves)


def is_real(speedup: float) -> bool:
    """Whether the gain is worth the small differences in the results."""
    return speedup >= LEAST_SPEEDUP


def card_name() -> str:
    """The name that the GPU gives itself. Raises ModelUnavailable if no GPU is visible."""
    if not torch.cuda.is_available():
        raise ModelUnavailable("a GPU", "no CUDA device is visible; choose device cpu.")
    return torch.cuda.get_device_name()
