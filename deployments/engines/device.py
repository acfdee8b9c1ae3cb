"""The device an engine runs on: threads, numerics, and this process's share of a GPU."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import ParamSpec, TypeVar

import torch

from deployments.core.errors import EngineFailed, ModelUnavailable, OutOfMemory
from deployments.engines.protocols import EngineSettings

MIB = 1024 * 1024
# What a process holds beside torch's allocator: CUDA context, cuBLAS and cuDNN. It is measured; a
# figure outside these bounds is not this process alone, or not all of it: the larger is taken.
LEAST_CONTEXT_MIB, CONTEXT_MIB = 150, 600

Parameters = ParamSpec("Parameters")
Answer = TypeVar("Answer")
Dtypes = Mapping[str, tuple[str, ...]]  # device -> what an engine really runs in there
ONLY_FP32: Dtypes = {"cpu": ("fp32",), "cuda": ("fp32",)}

NO_MEMORY = ("out of memory", "STATUS_ALLOC_FAILED")  # pinned memory, modules, cuBLAS, cuDNN


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
    # 10 bits of mantissa are not fp32, and a half-precision model has parts that stay in fp32.
    torch.backends.cudnn.allow_tf32 = False
    warm_up()
    limit_memory(settings)


def warm_up() -> None:
    """Loads what nearly every batch needs, so that `context_bytes` sees it."""
    square = torch.zeros(64, 64, device="cuda")
    torch.nn.functional.conv1d(square[None], square[:, :, None])
    torch.mm(square, square)
    torch.cuda.synchronize()


def limit_memory(settings: EngineSettings) -> int:
    """Caps torch's allocator so that the process keeps to its fraction; the cap in bytes.

    May be called again when the context has grown. Raises ModelUnavailable where the fraction is
    less than the context.
    """
    free, total = torch.cuda.mem_get_info()
    context = context_bytes(total, free, torch.cuda.memory_reserved())
    fraction = 1.0 if settings.memory_fraction is None else settings.memory_fraction
    share = allocator_share(fraction, total, context)
    if share <= 0:
        raise ModelUnavailable(
            settings.name,
            f"{fraction:g} of this card does not even hold CUDA's context; "
            f"give it num_gpus well above {context / total:.2f}.",
        )
    if settings.memory_fraction is not None:
        torch.cuda.set_per_process_memory_fraction(share)
    return int(share * total)


def context_bytes(total_bytes: int, free_bytes: int, reserved_bytes: int) -> int:
    """What this process holds outside torch's allocator, from what the card says of itself.

    The card counts its other processes too, so the figure is never taken for more than
    CONTEXT_MIB: whether a small fraction can start must not depend on who started before.
    """
    outside = total_bytes - free_bytes - reserved_bytes
    return outside if LEAST_CONTEXT_MIB * MIB <= outside <= CONTEXT_MIB * MIB else CONTEXT_MIB * MIB


def allocator_share(memory_fraction: float, total_bytes: int, context_bytes: int) -> float:
    """What torch may allocate so that the whole process stays within its fraction of the card."""
    return max(0.0, memory_fraction - context_bytes / total_bytes)


def free_cache() -> None:
    """Gives the blocks that torch keeps for later back to the card; nothing on a CPU."""
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.empty_cache()


def ran_out_of_memory(error: RuntimeError) -> bool:
    """Whether memory was short: torch's own error, or what CUDA and its libraries say of it."""
    said = str(error)
    return isinstance(error, torch.OutOfMemoryError) or any(words in said for words in NO_MEMORY)


def translated(
    model: str, *, free: Callable[[], None] = free_cache
) -> Callable[[Callable[Parameters, Answer]], Callable[Parameters, Answer]]:
    """Makes a function raise our errors for torch's: OutOfMemory, else EngineFailed.

    Memory is freed before OutOfMemory is raised, so that half of the batch finds all of it.
    """

    def around(work: Callable[Parameters, Answer]) -> Callable[Parameters, Answer]:
        @functools.wraps(work)
        def call(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Answer:
            try:
                return work(*args, **kwargs)
            except RuntimeError as error:
                if not ran_out_of_memory(error):
                    raise EngineFailed(f"{model} failed: {error}") from error
                failure = OutOfMemory(f"{model}: the batch does not fit into memory: {error}")
            # Not before: the error's traceback holds the tensors of the calls that it left.
            free()
            raise failure

        return call

    return around
