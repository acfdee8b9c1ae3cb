"""Made-up facts about a machine, for the tests of what `doctor` says about them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from cluster.doctor.checks import diagnose
from cluster.doctor.findings import Finding
from cluster.doctor.machine import Disk, Facts, Port, Torch, Version
from cluster.gpus import Reading, read_gpus
from cluster.ray_view import RayNode, RayView
from tests.cluster.fake_nvml import Card, FakeNvml, memory, nvml_error

ROOMY = Disk("/somewhere", free_gib=500.0, used_fraction=0.3)
CUDA_13 = Torch("2.13.0", (13, 0), ("sm_75", "sm_80", "sm_90", "sm_120", "compute_120"))
CUDA_12 = Torch("2.6.0", (12, 4), ("sm_50", "sm_70", "sm_75", "sm_80", "sm_86", "sm_90"))


def reading(*cards: Card, cuda: Any = 13000, driver: Any = "580.65.06") -> Reading:
    return read_gpus(FakeNvml(list(cards), cuda=cuda, driver=driver))


def without(code: int) -> Reading:
    """The reading where NVML fails with this error."""
    return read_gpus(FakeNvml(init=nvml_error(code)))


def node(**changes: Any) -> RayNode:
    this = RayNode("a1", "here", is_alive=True, is_this=True, num_cpus=8, num_gpus=1)
    return replace(this, accelerator_type="T4", **changes)


def facts(**changes: Any) -> Facts:
    """A machine with one idle T4, on which everything is in order but the changes."""
    fine = Facts(
        reading=reading(Card(MemoryInfo=memory(15360, 15000), ComputeRunningProcesses=[])),
        has_nvidia_card=True,
        n_cpus=8,
        memory_gib=32.0,
        torch=CUDA_13,
        cache=ROOMY,
        temporary=ROOMY,
        shared_memory=ROOMY,
        http_port=Port(8000, "HTTP", is_free=True),
        service=None,
        ray_ports=(Port(6379, "Ray's head", is_free=True),),
        open_ports=(),
        av_failure=None,
        missing_decoders=(),
        hubs=("modelscope",),
        is_offline=False,
        weights={"paraformer-zh": True},
        ray=RayView("10.0.0.1:6379", (node(),)),
        versions=(Version("ray", "2.60.0", "2.60.0"),),
    )
    return replace(fine, **changes)


def not_green(given: Facts) -> list[Finding]:
    return [finding for finding in diagnose(given) if finding.level != "green"]
