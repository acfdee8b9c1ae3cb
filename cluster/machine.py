"""The facts about this machine that `doctor` judges: gathered here, at the edge, judged elsewhere.

Every look has a limit and none of them raises: a fact that could not be had says why.
"""

from __future__ import annotations

import importlib.metadata
import io
import os
import re
import shutil
import socket
import wave
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import psutil

from cluster.gpus import Reading, read_gpus
from cluster.ray_view import RayView, look
from deployments.config import AppConfig
from deployments.core.audio import decode
from deployments.core.errors import AsrError
from deployments.weights.settings import cache_root
from deployments.weights.store import is_cached, probe_hubs

DISTRIBUTION = "paraformer-cluster"
PINNED = ("ray", "torch", "funasr")
# What clients send most: the decoders that must be in the FFmpeg libraries that PyAV brings.
DECODERS = ("aac", "flac", "mp3", "opus", "pcm_s16le", "vorbis")
RAY_PORTS = {6379: "Ray's head", 8265: "Ray's dashboard"}
HUB_TIMEOUT_S = 3.0
RAY_TIMEOUT_S = 20.0
HTTP_TIMEOUT_S = 2.0
GIB = 2**30
NVIDIA_PCI = "0x10de"


@dataclass(frozen=True, slots=True)
class Torch:
    """The torch installed here. No CUDA: a build for CPUs."""

    version: str
    cuda: tuple[int, int] | None
    architectures: tuple[str, ...]  # "sm_75", "compute_90": what its kernels are compiled for


@dataclass(frozen=True, slots=True)
class Disk:
    """A place that something is written to."""

    path: str
    free_gib: float
    used_fraction: float


@dataclass(frozen=True, slots=True)
class Port:
    number: int
    owner: str  # who will listen on it
    is_free: bool


@dataclass(frozen=True, slots=True)
class Version:
    package: str
    installed: str | None
    pinned: str | None


@dataclass(frozen=True, slots=True)
class Facts:
    """All that the checks look at."""

    reading: Reading
    has_nvidia_card: bool  # on the PCI bus, whatever the driver says
    n_cpus: int
    memory_gib: float
    torch: Torch | None
    cache: Disk
    temporary: Disk
    shared_memory: Disk | None  # None: this system has no /dev/shm
    http_port: Port
    service: str | None  # what answers on the HTTP port: "alive" is our service
    ray_ports: tuple[Port, ...]
    av_failure: str | None
    missing_decoders: tuple[str, ...]
    hubs: tuple[str, ...]
    is_offline: bool
    weights: Mapping[str, bool]  # model -> whether cached
    ray: RayView
    versions: tuple[Version, ...]


def gather(config: AppConfig, *, http_port: int, ray_address: str) -> Facts:
    """Looks at everything, for some ten seconds at the most on a machine that answers."""
    models = config.models
    named = [models.vad, *([] if models.asr == "auto" else [models.asr])]
    named += [models.punctuation] if models.punctuation else []
    weights = {ref: is_cached(ref, models.cache_dir) for ref in named}
    is_free = port_is_free(http_port)
    return Facts(
        reading=read_gpus(),
        has_nvidia_card=has_nvidia_card(),
        n_cpus=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1,
        memory_gib=psutil.virtual_memory().total / GIB,
        torch=torch_facts(),
        cache=disk(cache_root(models.cache_dir)),
        temporary=disk(Path("/tmp")),
        shared_memory=disk(Path("/dev/shm")) if Path("/dev/shm").is_dir() else None,
        http_port=Port(http_port, "HTTP", is_free),
        service=None if is_free else ask_service(http_port),
        ray_ports=tuple(Port(n, owner, port_is_free(n)) for n, owner in RAY_PORTS.items()),
        av_failure=av_failure(),
        missing_decoders=missing_decoders(),
        hubs=() if models.offline else tuple(probe_hubs(HUB_TIMEOUT_S)),
        is_offline=models.offline,
        weights=weights,
        ray=look(ray_address, timeout_s=RAY_TIMEOUT_S),
        versions=versions(),
    )


def has_nvidia_card(root: Path = Path("/sys/bus/pci/devices")) -> bool:
    """Whether the PCI bus has a display controller of NVIDIA's (class 03): needs no driver."""
    for device in root.glob("*"):
        try:
            vendor = (device / "vendor").read_text().strip()
            kind = (device / "class").read_text().strip()
        except OSError:
            continue
        if vendor == NVIDIA_PCI and kind.startswith("0x03"):
            return True
    return False


def torch_facts() -> Torch | None:
    """None where torch cannot be imported."""
    try:
        import torch
    except (ImportError, OSError):
        return None
    numbers = [int(n) for n in re.findall(r"\d+", torch.version.cuda or "")[:2]]
    cuda = (numbers[0], numbers[1]) if len(numbers) == 2 else None
    return Torch(torch.__version__, cuda, tuple(torch.cuda.get_arch_list()))


def disk(path: Path) -> Disk:
    """Of the nearest directory that exists: the cache is made by its first use."""
    there = next(p for p in (path, *path.absolute().parents) if p.is_dir())
    usage = shutil.disk_usage(there)
    home = Path.home()
    shown = f"~/{path.relative_to(home)}" if path.is_relative_to(home) else str(path)
    return Disk(shown, usage.free / GIB, 1 - usage.free / usage.total if usage.total else 1.0)


def port_is_free(number: int) -> bool:
    """Whether a server could listen on it, on every address of this machine."""
    try:
        socket.create_server(("", number), reuse_port=False).close()
    except OSError:
        return False
    return True


def ask_service(port: int) -> str | None:
    """The status that our service's /healthz gives; None where another program listens."""
    try:
        answer = httpx.get(f"http://127.0.0.1:{port}/healthz", timeout=HTTP_TIMEOUT_S).json()
    except (httpx.HTTPError, ValueError):
        return None
    return str(answer.get("status")) if isinstance(answer, dict) else None


def av_failure() -> str | None:
    """Why a tenth of a second of audio does not decode; None where it does."""
    wav = io.BytesIO()
    with wave.open(wav, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(np.zeros(800, np.int16).tobytes())
    upload = np.frombuffer(wav.getvalue(), np.uint8)
    try:
        audio = decode(upload, channel=None, max_duration_s=60)
    except (AsrError, ImportError, OSError) as error:
        return str(error)
    return None if len(audio) == 1600 else f"0.1 s came out as {len(audio)} samples of 16 kHz"


def missing_decoders() -> tuple[str, ...]:
    try:
        import av
    except (ImportError, OSError):
        return DECODERS
    return tuple(name for name in DECODERS if name not in av.codecs_available)


def versions() -> tuple[Version, ...]:
    """What is installed of the packages whose versions matter, and what the project pins."""
    try:
        requirements = importlib.metadata.requires(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        requirements = []
    pins = pinned(requirements)
    return tuple(Version(name, _installed(name), pins.get(name)) for name in PINNED)


def pinned(requirements: list[str]) -> dict[str, str]:
    """Package -> version, of the requirements that name exactly one: 'ray[serve]==2.60.0; ...'."""
    found = (re.match(r"([\w.-]+)(?:\[[^]]*\])?==([\w.]+)", line) for line in requirements)
    return {match[1]: match[2] for match in found if match}


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
