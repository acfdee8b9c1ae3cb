"""Gathers the facts about this machine that the checks of `doctor` judge.

Every probe has a timeout and none raises. Where a fact is missing, its value says why.
"""

from __future__ import annotations

import importlib.metadata
import io
import os
import re
import shutil
import socket
import wave
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

import httpx
import numpy as np
import psutil

from cluster.gpus import Reading, read_gpus
from cluster.ray_view import RayView, look
from deployments.config import AppConfig
from deployments.core.errors import AsrError
from deployments.core.media.decode import decode
from deployments.weights.settings import cache_root
from deployments.weights.store import is_cached, probe_hubs

DISTRIBUTION = "paraformer-cluster"
PINNED = ("ray", "torch", "funasr")
# The formats that clients send most. PyAV's FFmpeg libraries must have decoders for them.
DECODERS = ("aac", "flac", "mp3", "opus", "pcm_s16le", "vorbis")
RAY_PORTS = {6379: "Ray's head", 8265: "Ray's dashboard"}
# How the command lines of Ray's processes begin or what they hold; then how they are shown.
RAY_PROGRAMS = {
    "ray::": "Ray's workers",
    "/raylet/raylet": "raylet",
    "/gcs/gcs_server": "gcs_server",
    "/ray/dashboard/": "Ray's dashboard",
    "/ray/_private/": "Ray's agents",
}
HUB_TIMEOUT_S = 3.0
RAY_TIMEOUT_S = 20.0
HTTP_TIMEOUT_S = 2.0
GIB = 2**30
NVIDIA_PCI = "0x10de"


@dataclass(frozen=True, slots=True)
class Torch:
    """The torch installed here."""

    version: str
    cuda: tuple[int, int] | None  # None: a build for CPUs
    architectures: tuple[str, ...]  # "sm_75", "compute_90": what its kernels are compiled for


@dataclass(frozen=True, slots=True)
class Disk:
    """A directory that the service or Ray writes to."""

    path: str
    free_gib: float
    used_fraction: float


@dataclass(frozen=True, slots=True)
class Port:
    number: int
    owner: str  # the program that is to listen on the port
    is_free: bool


@dataclass(frozen=True, slots=True)
class OpenPort:
    """A port of Ray that other machines can reach, unless a firewall closes it."""

    program: str
    number: int


@dataclass(frozen=True, slots=True)
class Version:
    package: str
    installed: str | None
    pinned: str | None


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that the checks look at."""

    reading: Reading
    has_nvidia_card: bool  # on the PCI bus, even if the driver does not see the card
    n_cpus: int
    memory_gib: float
    torch: Torch | None
    cache: Disk
    temporary: Disk
    shared_memory: Disk | None  # None: this system has no /dev/shm
    http_port: Port
    service: str | None  # status that the HTTP port's /healthz gives; "alive": our service
    ray_ports: tuple[Port, ...]
    open_ports: tuple[OpenPort, ...]
    av_failure: str | None
    missing_decoders: tuple[str, ...]
    hubs: tuple[str, ...]
    is_offline: bool
    weights: Mapping[str, bool]  # model -> whether cached
    ray: RayView
    versions: tuple[Version, ...]


def gather(config: AppConfig, *, http_port: int, ray_address: str) -> Facts:
    """Gathers all facts. Takes about ten seconds at most where nothing hangs."""
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
        open_ports=open_ports(psutil.process_iter()),
        av_failure=av_failure(),
        missing_decoders=missing_decoders(),
        hubs=() if models.offline else tuple(probe_hubs(HUB_TIMEOUT_S)),
        is_offline=models.offline,
        weights=weights,
        ray=look(ray_address, timeout_s=RAY_TIMEOUT_S),
        versions=versions(),
    )


def open_ports(processes: Iterable[psutil.Process]) -> tuple[OpenPort, ...]:
    """The ports on which Ray listens beyond loopback, as far as this user sees its processes."""
    found = set()
    for process in processes:
        try:
            title = " ".join(process.cmdline())
            named = [shown for part, shown in RAY_PROGRAMS.items() if part in title]
            for socket_ in process.net_connections("tcp") if named else ():
                ip = ip_address(socket_.laddr.ip)
                ip = getattr(ip, "ipv4_mapped", None) or ip
                if socket_.status == psutil.CONN_LISTEN and not ip.is_loopback:
                    found.add(OpenPort(named[0], socket_.laddr.port))
        except psutil.Error:
            continue  # it has ended, or belongs to another user
    return tuple(sorted(found, key=lambda port: (port.program, port.number)))


def has_nvidia_card(root: Path = Path("/sys/bus/pci/devices")) -> bool:
    """Whether an NVIDIA display controller (class 03) is on the PCI bus. Needs no driver."""
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
    """The torch installed here, None if it cannot be imported."""
    try:
        import torch
    except (ImportError, OSError):
        return None
    numbers = [int(n) for n in re.findall(r"\d+", torch.version.cuda or "")[:2]]
    cuda = (numbers[0], numbers[1]) if len(numbers) == 2 else None
    return Torch(torch.__version__, cuda, tuple(torch.cuda.get_arch_list()))


def disk(path: Path) -> Disk:
    """The disk of this directory, or of its nearest parent that exists.

    The cache's directory is created on first use, so it may not exist yet.
    """
    there = next(p for p in (path, *path.absolute().parents) if p.is_dir())
    usage = shutil.disk_usage(there)
    home = Path.home()
    shown = f"~/{path.relative_to(home)}" if path.is_relative_to(home) else str(path)
    return Disk(shown, usage.free / GIB, 1 - usage.free / usage.total if usage.total else 1.0)


def port_is_free(number: int) -> bool:
    """Whether a server could listen on this port, on every address of this machine."""
    try:
        socket.create_server(("", number), reuse_port=False).close()
    except OSError:
        return False
    return True


def ask_service(port: int) -> str | None:
    """The status that our service's /healthz gives, None if another program listens."""
    try:
        # `trust_env`: a proxy of the environment is not asked for this machine
        url = f"http://127.0.0.1:{port}/healthz"
        answer = httpx.get(url, timeout=HTTP_TIMEOUT_S, trust_env=False).json()
    except (httpx.HTTPError, ValueError):
        return None
    return str(answer.get("status")) if isinstance(answer, dict) else None


def av_failure() -> str | None:
    """Why PyAV cannot decode a tenth of a second of audio, None if it can."""
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
    """Installed and pinned versions of the packages whose versions matter."""
    try:
        requirements = importlib.metadata.requires(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        requirements = []
    pins = pinned(requirements)
    return tuple(Version(name, _installed(name), pins.get(name)) for name in PINNED)


def pinned(requirements: list[str]) -> dict[str, str]:
    """Package -> version, of the requirements with one version: 'ray[serve]==2.60.0; ...'."""
    found = (re.match(r"([\w.-]+)(?:\[[^]]*\])?==([\w.]+)", line) for line in requirements)
    return {match[1]: match[2] for match in found if match}


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
