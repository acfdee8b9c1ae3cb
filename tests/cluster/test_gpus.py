"""Reading GPUs: every failure of NVML is handled, and a broken card does not hide the others."""

from __future__ import annotations

import dataclasses

import pynvml
import pytest

from cluster.gpus import PROBLEMS, Gpu, Process, read_gpus
from tests.cluster.fake_nvml import (
    NOT_SUPPORTED,
    Card,
    FakeNvml,
    memory,
    nvml_error,
    process,
)


def only(nvml: FakeNvml) -> Gpu:
    """The one card of a machine without problems."""
    reading = read_gpus(nvml)
    assert reading.problems == ()
    (gpu,) = reading.gpus
    return gpu


def test_a_card_has_all_its_figures() -> None:
    gpu = only(FakeNvml([Card()]))

    assert gpu == Gpu(
        index=0,
        name="Tesla T4",
        uuid="GPU-10fb0fbd-2696-43f3-467f-d280d906a107",
        driver_version="550.54.15",
        cuda_version=(12, 4),
        memory_total_mib=15360,
        memory_free_mib=12203,
        compute_capability=(7, 5),
        utilization_percent=76,
        temperature_c=61,
        power_w=43.512,
        power_limit_w=70.0,
        processes=(Process(4021, 3140, "ray::ServeReplica:default:Asr-T4"),),
    )
    assert gpu.memory_used_mib == 3157


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, "no_library"),
        (pynvml.NVML_ERROR_DRIVER_NOT_LOADED, "no_driver"),
        (pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH, "version_mismatch"),
        (pynvml.NVML_ERROR_FUNCTION_NOT_FOUND, "version_mismatch"),
        (pynvml.NVML_ERROR_NO_PERMISSION, "no_permission"),
        (pynvml.NVML_ERROR_UNKNOWN, "unknown"),
        (pynvml.NVML_ERROR_OPERATING_SYSTEM, "unknown"),
    ],
)
def test_a_machine_whose_nvml_does_not_start_has_one_problem(code: int, kind: str) -> None:
    reading = read_gpus(FakeNvml([Card()], init=nvml_error(code)))

    assert reading.gpus == ()
    assert [problem.kind for problem in reading.problems] == [kind]
    assert reading.problems[0].remedy


@pytest.mark.parametrize("error", [OSError("libnvidia-ml.so.1: bad ELF"), AttributeError("nvml")])
def test_a_library_that_cannot_be_loaded_is_a_problem_with_the_original_text(
    error: Exception,
) -> None:
    (problem,) = read_gpus(FakeNvml(init=error)).problems

    assert problem.kind == "unknown"
    assert str(error) in problem.what


def test_a_driver_without_a_card_is_a_problem() -> None:
    (problem,) = read_gpus(FakeNvml([])).problems

    assert problem.kind == "no_gpu"


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (pynvml.NVML_ERROR_GPU_IS_LOST, "lost"),
        (pynvml.NVML_ERROR_RESET_REQUIRED, "reset_required"),
        (pynvml.NVML_ERROR_INSUFFICIENT_POWER, "no_power"),
        (pynvml.NVML_ERROR_IRQ_ISSUE, "interrupts"),
        (pynvml.NVML_ERROR_NO_PERMISSION, "no_permission"),
        (pynvml.NVML_ERROR_UNKNOWN, "unknown"),
    ],
)
def test_a_card_that_cannot_be_opened_does_not_hide_the_others(code: int, kind: str) -> None:
    reading = read_gpus(FakeNvml([Card(), Card(Handle=nvml_error(code)), Card(Name="NVIDIA L4")]))

    assert [(gpu.index, gpu.name) for gpu in reading.gpus] == [(0, "Tesla T4"), (2, "NVIDIA L4")]
    assert [(problem.index, problem.kind) for problem in reading.problems] == [(1, kind)]


def test_a_card_lost_between_opening_and_reading_is_a_problem_too() -> None:
    lost = nvml_error(pynvml.NVML_ERROR_GPU_IS_LOST)

    reading = read_gpus(FakeNvml([Card(MemoryInfo=lost)]))

    assert (reading.gpus, reading.problems[0].kind) == ((), "lost")


OPTIONAL = {
    "UtilizationRates": "utilization_percent",
    "Temperature": "temperature_c",
    "PowerUsage": "power_w",
    "EnforcedPowerLimit": "power_limit_w",
    "CudaComputeCapability": "compute_capability",
    "MemoryInfo": "memory_free_mib",
}
OF_A_FIGURE = [
    NOT_SUPPORTED,
    nvml_error(pynvml.NVML_ERROR_NO_PERMISSION),
    nvml_error(pynvml.NVML_ERROR_FUNCTION_NOT_FOUND),
    nvml_error(pynvml.NVML_ERROR_UNKNOWN),
    AttributeError("undefined symbol"),
]


@pytest.mark.parametrize("error", OF_A_FIGURE, ids=repr)
@pytest.mark.parametrize(("function", "field"), OPTIONAL.items())
def test_a_figure_that_fails_is_none_and_the_others_are_there(
    function: str, field: str, error: Exception
) -> None:
    gpu = only(FakeNvml([Card(**{function: error})]))

    assert getattr(gpu, field) is None
    others = set(OPTIONAL.values()) - {field}
    assert None not in {getattr(gpu, other) for other in others}


def test_names_that_are_bytes_become_text() -> None:
    card = Card(Name=b"Tesla V100-SXM2-16GB", UUID=b"GPU-50205d95")

    gpu = only(FakeNvml([card], driver=b"418.87"))

    assert (gpu.name, gpu.uuid, gpu.driver_version) == (
        "Tesla V100-SXM2-16GB",
        "GPU-50205d95",
        "418.87",
    )


def test_a_name_that_is_not_utf_8_is_an_unknown_card() -> None:
    garbled = UnicodeDecodeError("utf-8", b"\xf8", 0, 1, "invalid start byte")

    assert only(FakeNvml([Card(Name=garbled)])).name == "unknown GPU"


def test_process_memory_that_may_not_be_seen_is_none() -> None:
    hidden = process(77, None)
    unsigned = process(78, None)
    unsigned.usedGpuMemory = 2**64 - 1  # NVML_VALUE_NOT_AVAILABLE, as some bindings leave it

    gpu = only(FakeNvml([Card(ComputeRunningProcesses=[hidden, unsigned])]))

    assert gpu.processes == (Process(77, None), Process(78, None))


def test_a_process_that_computes_and_draws_is_counted_once() -> None:
    both = [process(9, 500)]

    gpu = only(FakeNvml([Card(ComputeRunningProcesses=both, GraphicsRunningProcesses=both)]))

    assert gpu.processes == (Process(9, 500),)


def test_a_driver_that_cannot_list_processes_differs_from_an_idle_card() -> None:
    missing = nvml_error(pynvml.NVML_ERROR_FUNCTION_NOT_FOUND)

    none = only(FakeNvml([Card(ComputeRunningProcesses=missing, GraphicsRunningProcesses=missing)]))
    idle = only(FakeNvml([Card(ComputeRunningProcesses=[])]))

    assert (none.processes, idle.processes) == (None, ())


def test_a_card_in_mig_mode_names_its_slices_and_skips_empty_places() -> None:
    piece = Card(
        Name="NVIDIA A100-SXM4-40GB MIG 3g.20gb",
        UUID="MIG-b7a1",
        MemoryInfo=memory(20096, 20083),
    )
    card = Card(
        Name="NVIDIA A100-SXM4-40GB",
        MigMode=(1, 1),
        MaxMigDeviceCount=7,
        UtilizationRates=NOT_SUPPORTED,
        instances={1: piece, 5: Card(MemoryInfo=nvml_error(pynvml.NVML_ERROR_GPU_IS_LOST))},
    )

    gpu = only(FakeNvml([card]))

    assert gpu.is_mig
    assert [dataclasses.astuple(instance) for instance in gpu.mig] == [
        ("MIG-b7a1", "NVIDIA A100-SXM4-40GB MIG 3g.20gb", 20096, 20083)
    ]
    assert gpu.utilization_percent is None


def test_nvml_is_shut_down_even_if_a_card_fails() -> None:
    nvml = FakeNvml([Card(Handle=nvml_error(pynvml.NVML_ERROR_GPU_IS_LOST))])

    read_gpus(nvml)

    assert not nvml.is_open


def test_the_cuda_version_is_none_if_the_driver_does_not_report_it() -> None:
    gpu = only(FakeNvml([Card()], cuda=NOT_SUPPORTED, driver=NOT_SUPPORTED))

    assert (gpu.cuda_version, gpu.driver_version) == (None, "")


def test_every_problem_has_a_remedy() -> None:
    assert [kind for kind, (what, remedy) in PROBLEMS.items() if not (what and remedy)] == []
