"""Prepares the device of an engine: threads, number formats, this process's share of a GPU."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import ParamSpec, TypeVar

import torch

from deployments.core.errors import EngineFailed, ModelUnavailable, OutOfMemory
from deployments.engines.protocols import EngineSettings

MIB = 1024 * 1024
# The GPU memory that a process holds outside torch's allocator: CUDA context, cuBLAS and cuDNN.
# The card reports only the use of all processes together. A measured figure outside these bounds
# cannot be the use of this process alone. Then the larger bound is taken.
LEAST_CONTEXT_MIB, CONTEXT_MIB = 150, 600

Parameters = ParamSpec("Parameters")
Answer = TypeVar("Answer")
Dtypes = Mapping[str, tuple[str, ...]]  # device -> number formats that an engine computes in
ONLY_FP32: Dtypes = {"cpu": ("fp32",), "cuda": ("fp32",)}

# Words in the out-of-memory errors of pinned memory, CUDA modules, cuBLAS and cuDNN. These errors
# are not of the class torch.OutOfMemoryError.
NO_MEMORY = ("out of memory", "STATUS_ALLOC_FAILED")


def prepare(settings: EngineSettings, dtypes: Dtypes) -> torch.device:
    """Sets this process's threads and memory share, and returns the device.

    Raises ModelUnavailable for a device or a dtype that the engine would not really use
    (DESIGN, Half precision).
    """
    if settings.dtype not in dtypes.get(settings.device, ()):
        choices = ", ".join(f"{d} on {device}" for device, many in dtypes.items() for d in many)
        raise ModelUnavailable(
            settings.name,
            f"it does not run in {settings.dtype} on {settings.device!r}; choose {choices}.",
        )
    torch.set_num_threads(settings.num_threads)  # Ray sets OMP_NUM_THREADS=1 (DESIGN, Engines)
    if settings.device == "cuda":
        _prepare_gpu(settings)
    return torch.device(settings.device)


def _prepare_gpu(settings: EngineSettings) -> None:
    if not torch.cuda.is_available():
        raise ModelUnavailable(settings.name, "no CUDA device is visible; choose device cpu.")
    # TF32 keeps 10 bits of the mantissa, which is not fp32. Half-precision models need true fp32
    # too: some of their parts stay in it.
    torch.backends.cudnn.allow_tf32 = False
    warm_up()
    limit_memory(settings)


def warm_up() -> None:
    """Loads the libraries that nearly every batch needs, so that `context_bytes` counts them."""
    square = torch.zeros(64, 64, device="cuda")
    torch.nn.functional.conv1d(square[None], square[:, :, None])
    torch.mm(square, square)
    torch.cuda.synchronize()


def limit_memory(settings: EngineSettings) -> int:
    """Caps torch's allocator so that the process keeps to its fraction; returns the cap in bytes.

    May be called again when the CUDA context has grown. Raises ModelUnavailable if the fraction is
    smaller than the context.
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
    """The memory that this process holds outside torch's allocator, from the card's own figures.

    These figures include the other processes on the card. So the answer is never more than
    CONTEXT_MIB: whether an engine with a small fraction starts must not depend on which processes
    started before.
    """
    outside = total_bytes - free_bytes - reserved_bytes
    return outside if LEAST_CONTEXT_MIB * MIB <= outside <= CONTEXT_MIB * MIB else CONTEXT_MIB * MIB


def allocator_share(memory_fraction: float, total_bytes: int, context_bytes: int) -> float:
    """The fraction for torch's allocator that keeps the whole process within `memory_fraction`."""
    return max(0.0, memory_fraction - context_bytes / total_bytes)


def free_cache() -> None:
    """Returns the blocks that torch's allocator caches to the card. Does nothing on a CPU."""
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.empty_cache()


def ran_out_of_memory(error: RuntimeError) -> bool:
    """Whether this is an out-of-memory error: torch's own, or one of CUDA and its libraries."""
    said = str(error)
    return isinstance(error, torch.OutOfMemoryError) or any(words in said for words in NO_MEMORY)


def translated(
    model: str, *, free: Callable[[], None] = free_cache
) -> Callable[[Callable[Parameters, Answer]], Callable[Parameters, Answer]]:
    """A decorator that turns torch's errors into OutOfMemory or EngineFailed.

    Memory is freed before OutOfMemory is raised, because the caller then tries half of the batch.
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
            # After the except block: until it ends, the traceback holds the failed calls' tensors.
            free()
            raise failure

        return call

    return around
