"""The checks of `doctor`: pure functions from the facts about a machine to findings."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from cluster.doctor.findings import Finding, Level, counted, sentence
from cluster.doctor.gpu_checks import architectures, driver, gpus
from cluster.doctor.machine import Disk, Facts
from cluster.planning.cpus import REPLICA_MIB

WEIGHTS_GIB = 4.0  # the three models, and one download in progress
LOGS_GIB = 10.0
# Share of a disk above which Ray creates no more objects (RAY_local_fs_capacity_threshold).
RAY_FULL = 0.95
SHM_GIB = 2.0  # an hour of audio is 115 MB; a container has 64 MB by default


def diagnose(facts: Facts) -> list[Finding]:
    """Every finding, in the order of the checks."""
    return [finding for check in CHECKS for finding in check(facts)]


def disks(facts: Facts) -> Iterator[Finding]:
    missing = not all(facts.weights.values())
    cache, needed_gib = facts.cache, WEIGHTS_GIB if missing else 0.1
    level: Level = "green" if cache.free_gib >= needed_gib else "red"
    yield Finding(
        "disk",
        level,
        f"Models ({cache.path}): {cache.free_gib:.0f} GiB free.",
        f"Free {needed_gib:g} GiB, or set PARAFORMER_CACHE_DIR." if level != "green" else "",
    )
    yield _temporary(facts.temporary)
    if facts.shared_memory is not None:
        free_gib = facts.shared_memory.free_gib
        is_small = free_gib < SHM_GIB
        yield Finding(
            "disk",
            "yellow" if is_small else "green",
            f"Ray's object store (/dev/shm): {free_gib:.1f} GiB free.",
            "docker run --shm-size=8g (Kubernetes: an emptyDir of medium Memory). Otherwise Ray "
            "keeps its objects in /tmp, which is slow."
            if is_small
            else "",
        )


def _temporary(disk: Disk) -> Finding:
    what = f"Ray's logs and spilled objects ({disk.path}): {disk.free_gib:.0f} GiB free"
    if disk.used_fraction > RAY_FULL:
        what += f", {disk.used_fraction:.0%} full: Ray creates no more objects."
        return Finding("disk", "red", what, "Free space, or ray start --temp-dir=DIR.")
    if disk.free_gib < LOGS_GIB:
        return Finding("disk", "yellow", what + ".", "Free space, or ray start --temp-dir=DIR.")
    return Finding("disk", "green", what + ".")


def memory(facts: Facts) -> Iterator[Finding]:
    needed_gib = 2 * REPLICA_MIB / 1024
    is_short = facts.memory_gib < needed_gib
    yield Finding(
        "memory",
        "yellow" if is_short else "green",
        f"{facts.memory_gib:.0f} GiB of RAM, {facts.n_cpus} cores.",
        f"A CPU replica and the rest of the service need {needed_gib:g} GiB." if is_short else "",
    )


def ports(facts: Facts) -> Iterator[Finding]:
    http = facts.http_port
    if http.is_free:
        yield Finding("port", "green", f"Port {http.number} (HTTP) is free.")
    elif facts.service == "alive":
        yield Finding("port", "green", f"The service answers on port {http.number}.")
    else:
        yield Finding(
            "port",
            "red",
            f"Port {http.number} (HTTP) is taken by another program.",
            "Stop it, or set http_options.port in serve_config.yaml.",
        )
    for port in facts.ray_ports:
        if port.is_free or facts.ray.nodes:
            whose = "is free" if port.is_free else "is taken, and Ray runs"
            yield Finding("port", "green", f"Port {port.number} ({port.owner}) {whose}.")
        else:
            yield Finding(
                "port",
                "yellow",
                f"Port {port.number} ({port.owner}) is taken, and no Ray answers.",
                "ray stop, if a Ray died here; or ray start --head --port=N --dashboard-port=N.",
            )


def exposure(facts: Facts) -> Iterator[Finding]:
    """The ports of Ray that other machines can reach."""
    numbers: dict[str, list[str]] = {}
    for port in facts.open_ports:
        numbers.setdefault(port.program, []).append(str(port.number))
    if not numbers:
        yield Finding("port", "green", "No port of Ray is open beyond loopback.")
        return
    listed = "; ".join(f"{program} on {', '.join(found)}" for program, found in numbers.items())
    yield Finding(
        "port",
        "yellow",
        f"Other machines can reach {listed}.",
        "Close these ports to strangers with a firewall (docs, Several machines).",
    )


def ffmpeg(facts: Facts) -> Iterator[Finding]:
    if facts.av_failure is not None:
        what = f"PyAV cannot decode audio: {facts.av_failure}"
        yield Finding("ffmpeg", "red", what, "pip install --force-reinstall av==18.1.0")
    elif facts.missing_decoders:
        what = f"PyAV's FFmpeg lacks {', '.join(facts.missing_decoders)}."
        yield Finding("ffmpeg", "yellow", what, "Install PyAV's wheel from PyPI, which has them.")
    else:
        yield Finding("ffmpeg", "green", "PyAV decodes audio, and the common decoders are there.")


def weights(facts: Facts) -> Iterator[Finding]:
    """Checks that every model is in the cache, or that a hub to download it can be reached."""
    missing = [ref for ref, is_there in facts.weights.items() if not is_there]
    if facts.hubs:
        yield Finding("hub", "green", f"{' and '.join(facts.hubs)} can be reached.")
    elif facts.is_offline:
        yield Finding("hub", "green", "models.offline is set, so no hub is asked.")
    else:
        yield Finding(
            "hub",
            "yellow" if missing else "green",
            "Neither ModelScope nor Hugging Face can be reached from here.",
            "HTTPS_PROXY, or a mirror: MODELSCOPE_ENDPOINT, HF_ENDPOINT." if missing else "",
        )
    if not missing:
        yield Finding("weights", "green", f"Cached: {', '.join(facts.weights)}.")
        return
    fetch = f"python -m deployments.weights fetch {' '.join(missing)}"
    where = "" if facts.hubs else " where a hub can be reached, then copy the cache directory"
    yield Finding(
        "weights",
        "yellow" if facts.hubs else "red",
        f"Not cached: {', '.join(missing)}.",
        fetch + where,
    )


def ray(facts: Facts) -> Iterator[Finding]:
    """Compares what a running Ray cluster says about this node with the GPUs found here."""
    if facts.ray.failure:
        what = f"No Ray cluster answers here: {sentence(facts.ray.failure)}"
        yield Finding("ray", "yellow", what, "make serve starts one; so does ray start --head.")
        return
    node, alive = facts.ray.this, [n for n in facts.ray.nodes if n.is_alive]
    where = f"Ray at {facts.ray.address} has {counted(len(alive), 'node')}"
    if node is None:
        what = f"{where}; this machine is not one of them."
        yield Finding("ray", "yellow", what, f"ray start --address={facts.ray.address}")
        return
    n_gpus = len(facts.reading.gpus)
    of_type = f" of type {node.accelerator_type}" if node.accelerator_type else ""
    has = f"{counted(node.num_cpus, 'CPU')} and {counted(node.num_gpus, 'GPU')}{of_type}"
    what = f"{where}; this one has {has}"
    if node.num_gpus != n_gpus:
        yield Finding(
            "ray",
            "red" if node.num_gpus > n_gpus else "yellow",
            f"{what}, but NVML finds {n_gpus}.",
            "Restart Ray on this node; check --num-gpus and CUDA_VISIBLE_DEVICES.",
        )
    else:
        yield Finding("ray", "green", f"{what}.")


def versions(facts: Facts) -> Iterator[Finding]:
    """Compares installed versions with the pins. All nodes of a cluster need the same Ray."""
    for version in facts.versions:
        name, has, pin = version.package, version.installed, version.pinned
        if has is None:
            yield Finding("version", "red", f"{name} is not installed.", "make setup")
        elif pin is None:
            what = f"{name} {has}; the pinned version is not known here."
            yield Finding("version", "yellow", what, "pip install --no-deps .")
        elif has.split("+")[0] != pin:
            level: Level = "red" if name == "ray" else "yellow"
            yield Finding(
                "version", level, f"{name} {has} is installed, but {pin} is pinned.", "make setup"
            )
        else:
            yield Finding("version", "green", f"{name} {has}.")


CHECKS: tuple[Callable[[Facts], Iterator[Finding]], ...] = (
    gpus,
    driver,
    architectures,
    memory,
    disks,
    ports,
    exposure,
    ffmpeg,
    weights,
    ray,
    versions,
)
