"""Reads this machine's GPUs through NVML: `read_gpus() -> Reading`. The only user of pynvml.

NVML fails in many ways, and a machine with one broken card can still serve. Therefore nothing is
raised: a figure that cannot be read is None, and a card that cannot be used is a `Problem`. The
failures are those in NVML's documentation, and those that gpustat and nvitop have met in the field:

- no library, no driver, or a driver that was updated under a running library; a lost card;
- names that are bytes or not UTF-8; process memory that containers hide;
- figures that are "not supported" (virtual GPUs, MIG, GeForce); functions that old drivers lack.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import pynvml

T = TypeVar("T")

MIB = 2**20
# Besides NVMLError. AttributeError: an old driver lacks a function. UnicodeDecodeError: the driver
# of a virtual machine gives a name that is not UTF-8. OSError: the library cannot be loaded.
FAILURES = (pynvml.NVMLError, AttributeError, UnicodeDecodeError, OSError)


@dataclass(frozen=True, slots=True)
class Process:
    """A process that holds memory of a GPU. Also in a container `pid` is the host's number."""

    pid: int
    used_mib: int | None  # None: NVML has no permission to tell
    name: str = ""


@dataclass(frozen=True, slots=True)
class MigInstance:
    """A slice of a card in MIG mode. CUDA sees the slice as a device of its own."""

    uuid: str
    name: str
    memory_total_mib: int | None
    memory_free_mib: int | None


@dataclass(frozen=True, slots=True)
class Gpu:
    """One card. A figure is None if the card, its mode or the driver does not report it."""

    index: int
    name: str
    uuid: str
    driver_version: str
    cuda_version: tuple[int, int] | None  # the newest CUDA that the driver runs
    memory_total_mib: int | None
    memory_free_mib: int | None
    compute_capability: tuple[int, int] | None
    utilization_percent: int | None
    temperature_c: int | None
    power_w: float | None
    power_limit_w: float | None
    processes: tuple[Process, ...] | None
    is_mig: bool = False
    mig: tuple[MigInstance, ...] = ()

    @property
    def memory_used_mib(self) -> int | None:
        if self.memory_total_mib is None or self.memory_free_mib is None:
            return None
        return self.memory_total_mib - self.memory_free_mib


@dataclass(frozen=True, slots=True)
class Problem:
    """Why one card, or every card, cannot be read. `kind` is a key of `PROBLEMS`."""

    kind: str
    what: str
    remedy: str
    index: int | None = None  # number of the card; None: all cards of the machine


@dataclass(frozen=True, slots=True)
class Reading:
    """The cards that answered, and the problems of the others."""

    gpus: tuple[Gpu, ...] = ()
    problems: tuple[Problem, ...] = ()


# Kind of problem -> (what is wrong, what to do). `{error}` becomes NVML's own text.
PROBLEMS = {
    "no_library": (
        "NVIDIA's management library (libnvidia-ml.so.1) is not installed",
        "Without an NVIDIA GPU: nothing to do. Otherwise install the driver, or start the "
        "container with --gpus all (NVIDIA Container Toolkit).",
    ),
    "no_driver": (
        "the NVIDIA driver is not loaded",
        "sudo modprobe nvidia, or reboot; after a kernel update reinstall the driver (DKMS).",
    ),
    "version_mismatch": (
        "the driver in the kernel and NVIDIA's libraries are of different versions",
        "The driver was updated while loaded: reboot, or stop what uses the GPUs and reload the "
        "nvidia modules.",
    ),
    "no_permission": (
        "this user may not open the NVIDIA devices",
        "Give access to /dev/nvidia*: the video or render group, or the container's device rules.",
    ),
    "lost": (
        "the GPU has fallen off the bus",
        "See dmesg for its Xid; reboot, check seating, power and cooling. Until then hide it with "
        "CUDA_VISIBLE_DEVICES.",
    ),
    "reset_required": (
        "the GPU must be reset before it works again",
        "Stop what uses it, then sudo nvidia-smi --gpu-reset -i INDEX, or reboot.",
    ),
    "no_power": (
        "the GPU's power cable is not connected",
        "Connect the card's power cables.",
    ),
    "interrupts": (
        "the kernel cannot deliver the GPU's interrupts",
        "See dmesg; check the BIOS and the virtual machine's pass-through settings.",
    ),
    "no_gpu": (
        "the driver runs and finds no GPU",
        "lspci | grep -i nvidia shows whether a card is there. A container needs --gpus all.",
    ),
    "unknown": (
        "NVML failed: {error}",
        "Compare with nvidia-smi; a reboot or a newer driver helps most often.",
    ),
}
KINDS = {
    pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: "no_library",
    pynvml.NVML_ERROR_FUNCTION_NOT_FOUND: "version_mismatch",  # of the library and the driver
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED: "no_driver",
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: "version_mismatch",
    pynvml.NVML_ERROR_NO_PERMISSION: "no_permission",
    pynvml.NVML_ERROR_GPU_IS_LOST: "lost",
    pynvml.NVML_ERROR_GPU_NOT_FOUND: "lost",
    pynvml.NVML_ERROR_RESET_REQUIRED: "reset_required",
    pynvml.NVML_ERROR_INSUFFICIENT_POWER: "no_power",
    pynvml.NVML_ERROR_IRQ_ISSUE: "interrupts",
    pynvml.NVML_ERROR_NOT_FOUND: "no_gpu",
}
OF_A_CARD = (pynvml.NVML_ERROR_GPU_IS_LOST, pynvml.NVML_ERROR_RESET_REQUIRED)


def read_gpus(nvml: Any = pynvml) -> Reading:
    """Every GPU of this machine. `nvml` is the pynvml module; a test passes a fake of it."""
    try:
        nvml.nvmlInit()
    except FAILURES as error:
        return Reading(problems=(problem_of(error),))
    with _shut_down_after(nvml):
        try:
            count = int(nvml.nvmlDeviceGetCount())
        except FAILURES as error:
            return Reading(problems=(problem_of(error),))
        if count == 0:
            return Reading(problems=(_problem("no_gpu"),))
        driver = _text(lambda: nvml.nvmlSystemGetDriverVersion())
        cuda = _or_none(lambda: _version(nvml.nvmlSystemGetCudaDriverVersion()))
        found = [_card(nvml, index, driver, cuda) for index in range(count)]
    return Reading(
        gpus=tuple(card for card in found if isinstance(card, Gpu)),
        problems=tuple(card for card in found if isinstance(card, Problem)),
    )


def problem_of(error: BaseException, index: int | None = None) -> Problem:
    """The problem that one of NVML's errors stands for."""
    code = getattr(error, "value", None)
    kind = KINDS.get(code, "unknown") if isinstance(code, int) else "unknown"
    return _problem(kind, index, str(error) or type(error).__name__)


def _problem(kind: str, index: int | None = None, error: str = "") -> Problem:
    what, remedy = PROBLEMS[kind]
    return Problem(kind, what.format(error=error), remedy, index)


@contextmanager
def _shut_down_after(nvml: Any) -> Iterator[None]:
    try:
        yield
    finally:
        _or_none(lambda: nvml.nvmlShutdown())


def _card(nvml: Any, index: int, driver: str, cuda: tuple[int, int] | None) -> Gpu | Problem:
    """One card, or why it cannot be used. A card with missing figures can be used."""
    try:
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        memory = _memory(nvml, handle)
    except FAILURES as error:
        return problem_of(error, index)
    milliwatts = _or_none(lambda: nvml.nvmlDeviceGetPowerUsage(handle))
    limit = _or_none(lambda: nvml.nvmlDeviceGetEnforcedPowerLimit(handle))
    is_mig = bool((_or_none(lambda: nvml.nvmlDeviceGetMigMode(handle)) or (0, 0))[0])
    return Gpu(
        index=index,
        name=_text(lambda: nvml.nvmlDeviceGetName(handle)) or "unknown GPU",
        uuid=_text(lambda: nvml.nvmlDeviceGetUUID(handle)),
        driver_version=driver,
        cuda_version=cuda,
        memory_total_mib=memory[0],
        memory_free_mib=memory[1],
        compute_capability=_or_none(lambda: _pair(nvml.nvmlDeviceGetCudaComputeCapability(handle))),
        utilization_percent=_or_none(lambda: int(nvml.nvmlDeviceGetUtilizationRates(handle).gpu)),
        temperature_c=_or_none(
            lambda: int(nvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU))
        ),
        power_w=None if milliwatts is None else milliwatts / 1000,
        power_limit_w=None if limit is None else limit / 1000,
        processes=_processes(nvml, handle),
        is_mig=is_mig,
        mig=tuple(_mig_instances(nvml, handle)) if is_mig else (),
    )


def _memory(nvml: Any, handle: Any) -> tuple[int | None, int | None]:
    """Total and free MiB; (None, None) where memory is shared with the CPU (Jetson, GB10).

    Raises the errors that say that the card itself is gone. Other errors are only a missing figure.
    """
    try:
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    except FAILURES as error:
        if getattr(error, "value", None) in OF_A_CARD:
            raise
        return None, None
    return int(memory.total) // MIB, int(memory.free) // MIB


def _processes(nvml: Any, handle: Any) -> tuple[Process, ...] | None:
    """The processes that run on the card, each once; None if the driver does not report them."""
    read = (nvml.nvmlDeviceGetComputeRunningProcesses, nvml.nvmlDeviceGetGraphicsRunningProcesses)
    lists = [_or_none(lambda ask=ask: list(ask(handle))) for ask in read]  # type: ignore[misc]
    if all(found is None for found in lists):
        return None
    used = {int(p.pid): _used_mib(p) for found in lists for p in found or ()}
    return tuple(
        Process(pid, mib, _text(lambda pid=pid: nvml.nvmlSystemGetProcessName(pid)))  # type: ignore[misc]
        for pid, mib in sorted(used.items())
    )


def _used_mib(process: Any) -> int | None:
    """None where NVML gives None, or NVML_VALUE_NOT_AVAILABLE as an unsigned number."""
    used = process.usedGpuMemory
    return None if used is None or used < 0 or used >= 2**63 else int(used) // MIB


def _mig_instances(nvml: Any, handle: Any) -> Iterator[MigInstance]:
    """The slices of a card in MIG mode. Places without a slice answer "not found"."""
    for place in range(_or_none(lambda: int(nvml.nvmlDeviceGetMaxMigDeviceCount(handle))) or 0):
        try:
            instance = nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, place)
            total, free = _memory(nvml, instance)
        except FAILURES:
            continue
        yield MigInstance(
            uuid=_text(lambda i=instance: nvml.nvmlDeviceGetUUID(i)),  # type: ignore[misc]
            name=_text(lambda i=instance: nvml.nvmlDeviceGetName(i)),  # type: ignore[misc]
            memory_total_mib=total,
            memory_free_mib=free,
        )


def _or_none(read: Callable[[], T]) -> T | None:
    """The figure, or None if this card or driver does not have it."""
    try:
        return read()
    except FAILURES:
        return None


def _text(read: Callable[[], str | bytes]) -> str:
    """The text, whether the binding gives bytes (old) or str (new); "" if it cannot be read."""
    value = _or_none(read)
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value or ""


def _version(number: int) -> tuple[int, int]:
    """13020 -> (13, 2)."""
    return number // 1000, number % 1000 // 10


def _pair(numbers: Sequence[int]) -> tuple[int, int]:
    return int(numbers[0]), int(numbers[1])
