"""Every check of `doctor` on made-up facts: what is found, how bad it is, and the remedy."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pynvml
import pytest

from cluster.doctor import command as doctor
from cluster.doctor.checks import diagnose
from cluster.doctor.gpu_checks import runs_on
from cluster.doctor.machine import Port, Torch, Version
from cluster.ray_view import RayView
from tests.cluster.doctor.facts import (
    CUDA_12,
    CUDA_13,
    ROOMY,
    facts,
    node,
    not_green,
    reading,
    without,
)
from tests.cluster.fake_nvml import NOT_SUPPORTED, Card, memory, nvml_error, process


def test_a_machine_in_order_is_green_throughout() -> None:
    assert not_green(facts()) == []
    assert {f.check for f in diagnose(facts())} == {
        "gpu memory",
        "tensor cores",
        "driver",
        "architecture",
        "memory",
        "disk",
        "port",
        "ffmpeg",
        "hub",
        "weights",
        "ray",
        "version",
    }


BROKEN = [
    # how the facts differ from a machine in order; the check, its level, a word of its finding
    ({"reading": without(pynvml.NVML_ERROR_DRIVER_NOT_LOADED)}, "gpu", "red", "modprobe"),
    ({"reading": without(pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH)}, "gpu", "red", "reboot"),
    ({"reading": without(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)}, "gpu", "red", "driver"),
    (
        {"reading": reading(Card(), Card(Handle=nvml_error(pynvml.NVML_ERROR_GPU_IS_LOST)))},
        "gpu",
        "red",
        "GPU 1: the GPU has fallen off the bus",
    ),
    ({"reading": reading(Card(MemoryInfo=memory(6144, 6000)))}, "gpu memory", "yellow", "6144"),
    ({"reading": reading(Card(MemoryInfo=memory(2000, 1900)))}, "gpu memory", "red", "2000"),
    ({"reading": reading(Card(MemoryInfo=NOT_SUPPORTED))}, "gpu memory", "yellow", "batch_audio_s"),
    (
        {"reading": reading(Card(MigMode=(1, 1), MaxMigDeviceCount=7, instances={0: Card()}))},
        "gpu memory",
        "yellow",
        "MIG mode with 1 instance,",
    ),
    (
        {"reading": reading(Card(ComputeRunningProcesses=[process(4021, 3140)]))},
        "gpu memory",
        "yellow",
        "Asr-T4 4021 (3140 MiB)",
    ),
    (
        {"reading": reading(Card(ComputeRunningProcesses=[process(7, None)]))},
        "gpu memory",
        "yellow",
        "process 7 (? MiB)",
    ),
    (
        {"reading": reading(Card(Name="NVIDIA GeForce GTX 1660"))},
        "tensor cores",
        "yellow",
        "fp32",
    ),
    ({"reading": reading(Card(), cuda=11040)}, "driver", "red", "580"),
    ({"reading": reading(Card(), cuda=12080)}, "driver", "red", "CUDA 12.8"),
    ({"reading": reading(Card(), cuda=12020), "torch": CUDA_12}, "driver", "yellow", "12.4"),
    ({"reading": reading(Card(), cuda=NOT_SUPPORTED)}, "driver", "yellow", "nvidia-smi"),
    ({"torch": Torch("2.13.0+cpu", None, ())}, "driver", "red", "make setup-gpu"),
    ({"torch": None}, "driver", "red", "make setup-gpu"),
    (
        {"reading": reading(Card(Name="Tesla V100-SXM2-16GB", CudaComputeCapability=(7, 0)))},
        "architecture",
        "red",
        "7.0",
    ),
    ({"torch": replace(CUDA_13, architectures=())}, "architecture", "yellow", "is unknown"),
    ({"memory_gib": 2.0}, "memory", "yellow", "2 GiB"),
    ({"cache": replace(ROOMY, free_gib=0.05)}, "disk", "red", "PARAFORMER_CACHE_DIR"),
    ({"temporary": replace(ROOMY, free_gib=5)}, "disk", "yellow", "--temp-dir"),
    ({"temporary": replace(ROOMY, used_fraction=0.96)}, "disk", "red", "96%"),
    ({"shared_memory": replace(ROOMY, free_gib=0.06)}, "disk", "yellow", "--shm-size"),
    ({"http_port": Port(8000, "HTTP", is_free=False)}, "port", "red", "8000"),
    (
        {"ray_ports": (Port(6379, "Ray's head", is_free=False),), "ray": RayView(failure="none")},
        "port",
        "yellow",
        "6379",
    ),
    ({"av_failure": "libavcodec is missing"}, "ffmpeg", "red", "libavcodec"),
    ({"missing_decoders": ("opus",)}, "ffmpeg", "yellow", "opus"),
    ({"hubs": (), "weights": {"ct-punc-zh": False}}, "hub", "yellow", "MODELSCOPE_ENDPOINT"),
    ({"hubs": (), "weights": {"ct-punc-zh": False}}, "weights", "red", "fetch ct-punc-zh"),
    ({"weights": {"ct-punc-zh": False}}, "weights", "yellow", "fetch ct-punc-zh"),
    ({"ray": RayView(failure="no Ray")}, "ray", "yellow", "make serve"),
    ({"ray": RayView("10.0.0.1:6379", (node(num_gpus=2),))}, "ray", "red", "NVML finds 1"),
    ({"ray": RayView("10.0.0.1:6379", (node(num_gpus=0),))}, "ray", "yellow", "--num-gpus"),
    ({"ray": RayView("10.0.0.1:6379", (node(is_this=False),))}, "ray", "yellow", "ray start"),
    ({"versions": (Version("ray", "2.59.0", "2.60.0"),)}, "version", "red", "2.60.0 is pinned"),
    ({"versions": (Version("torch", "2.12.0", "2.13.0"),)}, "version", "yellow", "make setup"),
    ({"versions": (Version("funasr", None, "1.4.16"),)}, "version", "red", "not installed"),
    ({"versions": (Version("ray", "2.60.0", None),)}, "version", "yellow", "not known"),
]


@pytest.mark.parametrize(("changes", "check", "level", "word"), BROKEN)
def test_each_problem_is_found_and_comes_with_a_remedy(
    changes: dict[str, Any], check: str, level: str, word: str
) -> None:
    found = [f for f in not_green(facts(**changes)) if f.check == check]

    assert [f.level for f in found] == [level]
    assert found[0].remedy
    assert word in found[0].what + found[0].remedy


@pytest.mark.parametrize(
    "changes",
    [
        {"http_port": Port(8000, "HTTP", is_free=False), "service": "alive"},
        {"ray_ports": (Port(6379, "Ray's head", is_free=False),)},  # by the Ray that runs
        {"hubs": (), "is_offline": True},
        {"hubs": ()},  # not needed, since every model is cached
        {"shared_memory": None},
        {"torch": replace(CUDA_13, version="2.13.0+cu130")},
        {"versions": (Version("torch", "2.13.0+cu130", "2.13.0"),)},
        {"reading": reading(Card(MemoryInfo=memory(15360, 15000)), cuda=13010)},
    ],
)
def test_a_machine_in_order_gets_no_complaint(changes: dict[str, Any]) -> None:
    assert not_green(facts(**changes)) == []


@pytest.mark.parametrize(
    "code",
    [pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, pynvml.NVML_ERROR_DRIVER_NOT_LOADED],
)
def test_a_machine_without_a_gpu_may_serve_on_its_cpus(code: int) -> None:
    given = facts(
        reading=without(code),
        has_nvidia_card=False,
        torch=Torch("2.13.0+cpu", None, ()),
        ray=RayView("10.0.0.1:6379", (node(num_gpus=0),)),
    )

    (finding,) = not_green(given)

    assert (finding.check, finding.level) == ("gpu", "yellow")
    assert "Serving on CPUs works" in finding.what
    assert doctor.status(diagnose(given)) == 0


@pytest.mark.parametrize(
    ("capability", "architectures", "runs"),
    [
        ((7, 5), ("sm_75",), True),
        ((8, 9), ("sm_80", "sm_86"), True),  # machine code of the same major version
        ((8, 0), ("sm_86",), False),
        ((9, 0), ("sm_80",), False),
        ((9, 0), ("compute_80",), True),  # PTX is compiled for any later card
        ((7, 0), ("sm_75", "compute_75"), False),
        ((9, 0), ("sm_90a",), True),
        ((10, 0), ("compute_90a",), False),  # the letter binds it to that one card
        ((12, 0), ("sm_100", "sm_120"), True),
        ((10, 3), ("sm_100",), True),
        ((9, 0), ("gfx942",), False),
    ],
)
def test_code_for_a_card_runs_where_cuda_says_it_does(
    capability: tuple[int, int], architectures: tuple[str, ...], runs: bool
) -> None:
    assert runs_on(capability, architectures) is runs
