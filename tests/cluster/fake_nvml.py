"""A fake pynvml that answers for made-up cards: `FakeNvml([Card(...), ...])`.

Its errors are of pynvml's own classes, and come where the driver raises them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pynvml

MIB = 2**20


def nvml_error(code: int) -> pynvml.NVMLError:
    """The error that pynvml raises for this return code of NVML."""
    return pynvml.NVMLError(code)


NOT_SUPPORTED = nvml_error(pynvml.NVML_ERROR_NOT_SUPPORTED)


def process(pid: int, used_mib: int | None) -> SimpleNamespace:
    return SimpleNamespace(pid=pid, usedGpuMemory=None if used_mib is None else used_mib * MIB)


def memory(total_mib: int, free_mib: int) -> SimpleNamespace:
    used_mib = total_mib - free_mib
    return SimpleNamespace(total=total_mib * MIB, free=free_mib * MIB, used=used_mib * MIB)


@dataclass
class Card:
    """The answer of each NVML function for one card. An answer that is an exception is raised."""

    Name: Any = "Tesla T4"
    UUID: Any = "GPU-10fb0fbd-2696-43f3-467f-d280d906a107"
    MemoryInfo: Any = field(default_factory=lambda: memory(15360, 12203))
    CudaComputeCapability: Any = (7, 5)
    UtilizationRates: Any = field(default_factory=lambda: SimpleNamespace(gpu=76, memory=0))
    Temperature: Any = 61
    PowerUsage: Any = 43_512
    EnforcedPowerLimit: Any = 70_000
    ComputeRunningProcesses: Any = field(default_factory=lambda: [process(4021, 3140)])
    GraphicsRunningProcesses: Any = field(default_factory=list)
    MigMode: Any = field(default_factory=lambda: NOT_SUPPORTED)
    MaxMigDeviceCount: Any = 0
    Handle: Any = None  # an exception: the card cannot be opened
    instances: Mapping[int, Card] = field(default_factory=dict)  # MIG: place -> slice


class FakeNvml:
    """The functions of pynvml that `cluster.gpus` calls."""

    def __init__(
        self,
        cards: list[Card] | None = None,
        *,
        init: Exception | None = None,
        count: Any = None,
        driver: Any = "550.54.15",
        cuda: Any = 12040,
        names: Mapping[int, Any] | None = None,
    ) -> None:
        self.cards = cards or []
        self.init, self.driver, self.cuda = init, driver, cuda
        self.count = len(self.cards) if count is None else count
        self.names = {4021: "ray::ServeReplica:default:Asr-T4"} if names is None else names
        self.is_open = False

    def __getattr__(self, function: str) -> Any:
        field_name = function.removeprefix("nvmlDeviceGet")
        if field_name not in Card.__dataclass_fields__:
            raise AttributeError(function)
        return lambda card, *rest: answer(getattr(card, field_name))

    def nvmlInit(self) -> None:
        answer(self.init)
        self.is_open = True

    def nvmlShutdown(self) -> None:
        assert self.is_open
        self.is_open = False

    def nvmlDeviceGetCount(self) -> Any:
        return answer(self.count)

    def nvmlSystemGetDriverVersion(self) -> Any:
        return answer(self.driver)

    def nvmlSystemGetCudaDriverVersion(self) -> Any:
        return answer(self.cuda)

    def nvmlSystemGetProcessName(self, pid: int) -> Any:
        return answer(self.names.get(pid, nvml_error(pynvml.NVML_ERROR_NOT_FOUND)))

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Card:
        answer(self.cards[index].Handle)
        return self.cards[index]

    def nvmlDeviceGetMigDeviceHandleByIndex(self, card: Card, place: int) -> Card:
        if place not in card.instances:
            raise nvml_error(pynvml.NVML_ERROR_NOT_FOUND)
        return card.instances[place]


def answer(value: Any) -> Any:
    if isinstance(value, Exception):
        raise value
    return value
