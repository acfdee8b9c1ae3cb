"""The checks of `doctor` on the GPUs, their driver and torch. Pure: facts in, findings out."""

from __future__ import annotations

import re
from collections.abc import Iterator

from cluster.doctor.findings import Finding, counted, dotted, sentence
from cluster.doctor.machine import Facts
from cluster.gpus import Gpu, Problem
from cluster.profiles import CPU_SPEED_PER_THREAD, profile

OLDEST_CUDA = (11, 8)
# 8 GB without the part that ECC and the firmware keep (a P4 has 7,611 MiB).
ENOUGH_GPU_MIB = 7_500
LEAST_GPU_MIB = 2_500  # a CUDA context, the weights in fp16 and a batch of one minute
BUSY_MIB = 1_024  # memory in use on a card from which `doctor` warns


def gpus(facts: Facts) -> Iterator[Finding]:
    for problem in facts.reading.problems:
        yield _of_problem(problem, facts)
    for gpu in facts.reading.gpus:
        yield from _memory(gpu)
        yield _tensor_cores(gpu)


def _of_problem(problem: Problem, facts: Facts) -> Finding:
    if problem.kind in ("no_library", "no_gpu", "no_driver") and not facts.has_nvidia_card:
        speed = CPU_SPEED_PER_THREAD * facts.n_cpus
        return Finding(
            "gpu",
            "yellow",
            f"No NVIDIA GPU here. Serving on CPUs works: about {speed:.0f} seconds of audio a "
            f"second on these {facts.n_cpus} cores (expected).",
            "Nothing to do to serve on CPUs. A container needs --gpus all to see a GPU.",
        )
    where = f"GPU {problem.index}: " if problem.index is not None else ""
    return Finding("gpu", "red", sentence(where + problem.what), problem.remedy)


def _memory(gpu: Gpu) -> Iterator[Finding]:
    total, used = gpu.memory_total_mib, gpu.memory_used_mib
    name = f"GPU {gpu.index} ({gpu.name})"
    if gpu.is_mig:
        yield Finding(
            "gpu memory",
            "yellow",
            f"{name} is in MIG mode with {counted(len(gpu.mig), 'instance')}, "
            "which are separate devices to CUDA.",
            "Ray counts whole cards unless CUDA_VISIBLE_DEVICES lists the instances' UUIDs.",
        )
        return
    if total is None or used is None:
        yield Finding(
            "gpu memory",
            "yellow",
            f"{name} does not report its memory.",
            "Set batch_audio_s of its pool in serve_config.yaml.",
        )
        return
    if total < ENOUGH_GPU_MIB:
        yield Finding(
            "gpu memory",
            "red" if total < LEAST_GPU_MIB else "yellow",
            f"{name} has {total} MiB; 8 GB are recommended.",
            "Give the pool num_gpus: 1 and let punctuation run on the CPU, or use a larger card.",
        )
    else:
        yield Finding("gpu memory", "green", f"{name}: {total} MiB, {total - used} MiB free.")
    if used > BUSY_MIB:
        yield Finding(
            "gpu memory",
            "yellow",
            f"{name}: {_users(gpu, used)}",
            "Nothing to do if this is the service. Otherwise stop it, or hide the card from Ray.",
        )


def _users(gpu: Gpu, used_mib: int) -> str:
    running = ", ".join(
        f"{p.name or 'process'} {p.pid} ({'?' if p.used_mib is None else p.used_mib} MiB)"
        for p in gpu.processes or ()
    )
    return f"{used_mib} MiB are in use" + (f" by {running}." if running else ".")


def _tensor_cores(gpu: Gpu) -> Finding:
    known = profile(gpu.name, compute_capability=gpu.compute_capability)
    if known.tensor_cores:
        return Finding(
            "tensor cores", "green", f"GPU {gpu.index} ({gpu.name}) has them and runs fp16."
        )
    return Finding(
        "tensor cores",
        "yellow",
        f"GPU {gpu.index} ({gpu.name}) is not known to have any, so it runs fp32. So does every "
        "other pool of the application, because an application has one dtype.",
        "In a cluster with faster cards, serve it as an application of its own.",
    )


def driver(facts: Facts) -> Iterator[Finding]:
    """Compares the driver's CUDA version with the one that torch was built with."""
    if not facts.reading.gpus:
        return
    gpu, torch = facts.reading.gpus[0], facts.torch
    has = f"Driver {gpu.driver_version or '?'} runs CUDA {dotted(gpu.cuda_version)}"
    if torch is None:
        yield Finding("driver", "red", "torch cannot be imported.", "make setup-gpu")
    elif torch.cuda is None:
        yield Finding(
            "driver",
            "red",
            f"torch {torch.version} is a CPU build: the GPUs here would be idle.",
            "make setup-gpu",
        )
    elif gpu.cuda_version is None:
        yield Finding(
            "driver",
            "yellow",
            f"{has}: the driver does not report it.",
            "Compare with nvidia-smi.",
        )
    elif gpu.cuda_version < OLDEST_CUDA or gpu.cuda_version[0] < torch.cuda[0]:
        yield Finding(
            "driver",
            "red",
            f"{has}; torch {torch.version} needs CUDA {dotted(torch.cuda)}.",
            "Install a newer driver (580 for CUDA 13, 525 for CUDA 12), or a torch built for an "
            "older CUDA.",
        )
    elif gpu.cuda_version < torch.cuda:
        yield Finding(
            "driver",
            "yellow",
            f"{has}; torch is built with {dotted(torch.cuda)}. Minor versions are compatible, "
            "but the driver may refuse code that is compiled at run time.",
            "Install a newer driver when convenient.",
        )
    else:
        yield Finding("driver", "green", f"{has}; torch needs {dotted(torch.cuda)}.")


def architectures(facts: Facts) -> Iterator[Finding]:
    """Compares each card with the GPU architectures that torch was compiled for."""
    torch = facts.torch
    if torch is None or torch.cuda is None:
        return
    for gpu in facts.reading.gpus:
        name, capability = f"GPU {gpu.index} ({gpu.name})", gpu.compute_capability
        if capability is None or not torch.architectures:
            what = f"It is unknown whether torch {torch.version} was compiled for {name}."
            yield Finding("architecture", "yellow", what, "Try one transcription.")
        elif runs_on(capability, torch.architectures):
            what = f"torch {torch.version} was compiled for {name}, {dotted(capability)}."
            yield Finding("architecture", "green", what)
        else:
            yield Finding(
                "architecture",
                "red",
                f"torch {torch.version} was not compiled for {name}, compute capability "
                f"{dotted(capability)}, but for {', '.join(torch.architectures)}.",
                "Install a torch compiled for it: an older one for an old card, a newer one for a "
                "new card.",
            )


def runs_on(capability: tuple[int, int], architectures: tuple[str, ...]) -> bool:
    """Whether code for one of these architectures runs on a card of this capability.

    Machine code (sm_75) runs on cards of the same major version and the same or a later minor one.
    PTX (compute_90) is compiled for any later card. With a letter (sm_90a), code runs on no other
    card than that one.
    """
    for kind, digits, letter in (
        m.groups()
        for m in (re.fullmatch(r"(sm|compute)_(\d+)([a-z]?)", a) for a in architectures)
        if m
    ):
        has = (int(digits[:-1]), int(digits[-1]))
        if letter == "a":
            if has == capability:
                return True
        elif has <= capability and (kind == "compute" or has[0] == capability[0]):
            return True
    return False
