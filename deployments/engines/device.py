"""The device an engine runs on: threads, numerics, and this process's share of a GPU."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from deployments.core.errors import ModelUnavailable
from deployments.engines.protocols import EngineSettings

# What a process holds beside torch's allocator: CUDA context, cuBLAS and cuDNN. Believed, to be
# measured per card; a fraction is only kept if it counts.
CONTEXT_MIB = 600
MIB = 1024 * 1024

Dtypes = Mapping[str, tuple[str, ...]]  # device -> what an engine really runs in there
ONLY_FP32: Dtypes = {"cpu": ("fp32",), "cuda": ("fp32",)}


def prepare(settings: EngineSettings, dtypes: Dtypes) -> torch.device:
    """The device, with this process's threads and memory share set.

    Raises ModelUnavailable for a device or a dtype that would not really be used (DESIGN 7).
    """
    if settings.dtype not in dtypes.get(settings.device, ()):
        choices = ", ".join(f"{d} on {device}" for device, many in dtypes.items() for d in many)
        raise ModelUnavailable(
            settings.name,
            f"it does not run in {settings.dtype} on {settings.device!r}; choose {choices}.",
        )
    torch.set_num_threads(settings.num_threads)  # Ray sets OMP_NUM_THREADS=1 (DESIGN 5)
    if settings.device == "cuda":
        _prepare_gpu(settings)
    return torch.device(settings.device)


def _prepare_gpu(settings: EngineSettings) -> None:
    if not torch.cuda.is_available():
        raise ModelUnavailable(settings.name, "no CUDA device is visible; choose device cpu.")
    if settings.dtype == "fp32":
        torch.backends.cudnn.allow_tf32 = False  # 10 bits of mantissa are not fp32
    if settings.memory_fraction is not None:
        total = torch.cuda.get_device_properties(0).total_memory
        share = allocator_share(settings.memory_fraction, total)
        if share <= 0:
            least = CONTEXT_MIB * MIB / total
            raise ModelUnavailable(
                settings.name,
                f"{settings.memory_fraction:g} of this card does not even hold CUDA's context; "
                f"give it num_gpus well above {least:.2f}.",
            )
        torch.cuda.set_per_process_memory_fraction(share)


def allocator_share(memory_fraction: float, total_bytes: int) -> float:
    """What torch may allocate so that the whole process stays within its fraction of the card."""
    return max(0.0, memory_fraction - CONTEXT_MIB * MIB / total_bytes)
