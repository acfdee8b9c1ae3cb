"""Every check of `doctor` on facts made up for it, and the command on this machine's own."""

from __future__ import annotations

import io
import json
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pynvml
import pytest
from rich.console import Console
from typer.testing import CliRunner

from cluster import doctor
from cluster.__main__ import app
from cluster.checks import diagnose
from cluster.findings import Finding
from cluster.gpu_checks import runs_on
from cluster.gpus import Reading, read_gpus
from cluster.machine import Disk, Facts, Port, Torch, Version, has_nvidia_card, pinned
from cluster.ray_view import RayNode, RayView, look, read
from tests.cluster.fake_nvml import NOT_SUPPORTED, Card, FakeNvml, memory, nvml_error, process

ROOMY = Disk("/somewhere", free_gib=500.0, used_fraction=0.3)
CUDA_13 = Torch("2.13.0", (13, 0), ("sm_75", "sm_80", "sm_90", "sm_120", "compute_120"))
CUDA_12 = Torch("2.6.0", (12, 4), ("sm_50", "sm_70", "sm_75", "sm_80", "sm_86", "sm_90"))


def reading(*cards: Card, cuda: Any = 13000, driver: Any = "580.65.06") -> Reading:
    return read_gpus(FakeNvml(list(cards), cuda=cuda, driver=driver))


def without(code: int) -> Reading:
    return read_gpus(FakeNvml(init=nvml_error(code)))


def node(**changes: Any) -> RayNode:
    this = RayNode("a1", "here", is_alive=True, is_this=True, num_cpus=8, num_gpus=1)
    return replace(this, accelerator_type="T4", **changes)


def facts(**changes: Any) -> Facts:
    """A machine with one idle T4 on which everything is as it should be."""
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
    # what differs from a machine in order -> check, level, a word of what or remedy
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
    ({"torch": replace(CUDA_13, architectures=())}, "architecture", "yellow", "cannot be told"),
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
    ({"hubs": (), "weights": {"ct-punc-zh": False}}, "hub", "yellow", "MODELSCOPE_DOMAIN"),
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
def test_what_is_wrong_is_found_and_comes_with_a_remedy(
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
        {"ray_ports": (Port(6379, "Ray's head", is_free=False),)},  # Ray runs
        {"hubs": (), "is_offline": True},
        {"hubs": ()},  # and every model is cached
        {"shared_memory": None},
        {"torch": replace(CUDA_13, version="2.13.0+cu130")},
        {"versions": (Version("torch", "2.13.0+cu130", "2.13.0"),)},
        {"reading": reading(Card(MemoryInfo=memory(15360, 15000)), cuda=13010)},
    ],
)
def test_what_is_in_order_is_not_complained_of(changes: dict[str, Any]) -> None:
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
        ((9, 0), ("compute_80",), True),  # PTX is compiled for later cards
        ((7, 0), ("sm_75", "compute_75"), False),
        ((9, 0), ("sm_90a",), True),
        ((10, 0), ("compute_90a",), False),  # bound to its very card
        ((12, 0), ("sm_100", "sm_120"), True),
        ((10, 3), ("sm_100",), True),
        ((9, 0), ("gfx942",), False),
    ],
)
def test_code_for_a_card_runs_where_cuda_says_it_does(
    capability: tuple[int, int], architectures: tuple[str, ...], runs: bool
) -> None:
    assert runs_on(capability, architectures) is runs


@pytest.mark.parametrize(
    ("levels", "expected"),
    [(["green"], 0), (["green", "yellow"], 0), (["yellow", "red"], 1)],
)
def test_only_red_is_a_failure(levels: list[Any], expected: int) -> None:
    assert doctor.status([Finding("x", level, "y") for level in levels]) == expected


def test_the_report_shows_brackets_as_they_are_and_the_verdict() -> None:
    console = Console(width=100, record=True, file=io.StringIO())

    doctor.show([Finding("a", "yellow", "needs [server]", "pip install .[server]")], console)

    text = console.export_text()
    assert "needs [server]" in text
    assert "-> pip install .[server]" in text
    assert "0 green, 1 yellow, 0 red." in text


def test_the_pci_bus_tells_a_card_from_its_sound_chip(tmp_path: Path) -> None:
    def device(name: str, vendor: str, kind: str) -> None:
        (tmp_path / name).mkdir()
        (tmp_path / name / "vendor").write_text(f"{vendor}\n")
        (tmp_path / name / "class").write_text(f"{kind}\n")

    device("0000:01:00.1", "0x10de", "0x040300")  # the card's HDMI audio
    device("0000:00:02.0", "0x8086", "0x030000")  # another vendor's display
    before = has_nvidia_card(tmp_path)
    device("0000:01:00.0", "0x10de", "0x030200")

    assert (before, has_nvidia_card(tmp_path)) == (False, True)


def test_pins_are_read_from_the_requirements() -> None:
    lines = ["ray[serve]==2.60.0; extra == 'server'", "torch==2.13.0", "numpy>=2.0"]

    assert pinned(lines) == {"ray": "2.60.0", "torch": "2.13.0"}


def test_a_ray_that_kills_its_asker_leaves_its_last_words() -> None:
    assert read("", "log line\nCheck failed: gcs is gone\n").failure == "Check failed: gcs is gone"
    assert read("", "").failure


def test_a_ray_that_wants_a_token_says_which_setting_brings_it() -> None:
    repeated = "gcs_client.cc:210: Unauthenticated: RPC error: InvalidAuthToken: missing\n" * 3

    assert "RAY_AUTH_MODE=token" in read("", repeated).failure


def test_an_address_where_nothing_listens_is_answered_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

    view = look(f"127.0.0.1:{port}", timeout_s=60)

    assert view.failure == f"nothing listens at 127.0.0.1:{port}"


def test_the_settings_and_the_port_come_from_the_configuration(tmp_path: Path) -> None:
    file = tmp_path / "serve_config.yaml"
    file.write_text(
        "http_options: {port: 9000}\n"
        "applications: [{name: asr, args: {models: {asr: whisper-small, offline: true}}}]\n"
    )

    config, port = doctor.read_config(file)

    assert (config.models.asr, config.models.offline, port) == ("whisper-small", True, 9000)


def test_a_configuration_that_is_none_is_refused_with_status_2(tmp_path: Path) -> None:
    file = tmp_path / "other.yaml"
    file.write_text("applications: {}\n")

    done = CliRunner().invoke(app, ["doctor", "--config", str(file)])

    assert done.exit_code == 2
    assert "other.yaml" in done.output


@pytest.mark.slow
def test_the_command_judges_this_machine_and_prints_a_flat_list() -> None:
    done = CliRunner().invoke(app, ["doctor", "--json", "--address", "127.0.0.1:1"])

    findings = json.loads(done.stdout)
    assert {"gpu", "gpu memory"} & {f["check"] for f in findings}
    assert all(set(f) == {"check", "level", "what", "remedy"} for f in findings)
    assert [f["check"] for f in findings if f["level"] != "green" and not f["remedy"]] == []
    assert done.exit_code == int(any(f["level"] == "red" for f in findings))
