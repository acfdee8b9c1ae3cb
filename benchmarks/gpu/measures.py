"""Measures of a device: speed of matrix products, floating-point work, idle time, memory.

A GPU is measured with torch's profiler and allocator and with NVML. On a CPU the wall clock and the
operators stand in, so that the code can be tried there.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from statistics import median
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.results import Figures
from deployments.core.types import SAMPLES_PER_MS, Audio, Hints
from deployments.engines.packed import to_device
from deployments.engines.paraformer.engine import Paraformer

MIB = 1024**2
SIDE = {"cpu": 256, "cuda": 8192}
PRODUCTS = 10
DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "fp16": torch.float16}
DTYPES |= {"bf16": torch.bfloat16}


@contextlib.contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Allows or forbids TF32, 10 bits of mantissa, in float32 products and convolutions."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


def synchronize(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def seconds(work: Callable[[], object], device: str, *, repeats: int = 3) -> float:
    """The median time of a call until the device is done, after a warm-up."""
    took = []
    for _ in range(repeats + 1):
        synchronize(device)
        began_s = time.perf_counter()
        work()
        synchronize(device)
        took.append(time.perf_counter() - began_s)
    return median(took[1:])


def matmul_tflops(name: str, device: str) -> float:
    """The speed of a large square matrix product, which no model can exceed."""
    side = SIDE[device]
    a, b = (torch.randn(side, side, device=device).to(DTYPES[name]) for _ in range(2))

    def products() -> None:
        for _ in range(PRODUCTS):
            torch.mm(a, b)

    with tf32(name == "tf32"):
        took_s = seconds(products, device)
    n_flop: int = 2 * side**3 * PRODUCTS
    return n_flop / took_s / 1e12


def gflop_per_audio_s(engine: Paraformer, audios: Sequence[Audio]) -> float:
    """The operations that torch counts in one batch, divided by its audio without padding.

    The LSTM of the word times is not counted, nor are a CPU's prepacked layers in fp32.
    """
    audio_s = sum(map(len, audios)) / SAMPLES_PER_MS / 1000
    with FlopCounterMode(display=False) as counter:
        engine.read(audios, Hints())
    n_flop: int = counter.get_total_flops()
    return n_flop / audio_s / 1e9


def busy_s(spans_us: Iterable[tuple[float, float]]) -> float:
    """The time that is covered by at least one of the spans."""
    total = 0.0
    covered_to = float("-inf")
    for start, end in sorted(spans_us):
        total += max(0.0, end - max(start, covered_to))
        covered_to = max(covered_to, end)
    return total / 1e6


def idle_share(work: Callable[[], object], device: str) -> float:
    """The part of a call's time in which the device does nothing, because it waits for the host.

    The call is timed without a profiler. The device's work is taken from a second call under
    torch's profiler, which slows the host but not the kernels. On a CPU operators stand in for
    kernels.
    """
    wall_s = seconds(work, device)
    activity = ProfilerActivity.CUDA if device == "cuda" else ProfilerActivity.CPU
    with profile(activities=[activity], acc_events=True) as profiler:
        work()
        synchronize(device)
    events: Any = profiler.events()
    spans = [
        (event.time_range.start, event.time_range.end)
        for event in events
        if event.device_type.name == device.upper()
    ]
    return max(0.0, 1 - busy_s(spans) / wall_s)


def copy_in_s(audios: Sequence[Audio], device: str) -> float:
    """The time to copy a batch's samples to the device, including the time to pin them."""
    samples = torch.cat([torch.from_numpy(audio) for audio in audios])
    return seconds(lambda: to_device(samples, torch.device(device)), device)


def memory(device: str) -> Figures:
    """The peaks of torch's allocator in this process, and the card's memory as it is now."""
    if device != "cuda":
        return {}
    free, total = torch.cuda.mem_get_info()
    reserved = torch.cuda.memory_reserved()
    figures: Figures = {
        "gpu": torch.cuda.get_device_name(),
        "memory_total_mib": total / MIB,
        "memory_peak_allocated_mib": torch.cuda.max_memory_allocated() / MIB,
        "memory_peak_reserved_mib": torch.cuda.max_memory_reserved() / MIB,
        "memory_beside_allocator_mib": (total - free - reserved) / MIB,
    }
    used = _nvml_used_bytes()
    return figures if used is None else figures | {"nvml_used_mib": used / MIB}


def _nvml_used_bytes() -> int | None:
    """The card's memory in use, as the driver counts; None where NVML does not answer."""
    try:
        import pynvml

        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByIndex(torch.cuda.current_device())
        return int(pynvml.nvmlDeviceGetMemoryInfo(handle).used)
    except Exception:  # an absent library or a driver that refuses: there is no figure then
        return None
