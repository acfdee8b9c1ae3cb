"""What `doctor` says: every check is a pure function of the facts, and a finding has a remedy."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from cluster.cpus import REPLICA_MIB
from cluster.findings import Finding, Level, counted, sentence
from cluster.gpu_checks import architectures, driver, gpus
from cluster.machine import Disk, Facts

WEIGHTS_GIB = 4.0  # the three models, and a download beside them
LOGS_GIB = 10.0
RAY_FULL = 0.95  # of a disk: above, Ray makes no more objects (RAY_local_fs_capacity_threshold)
SHM_GIB = 2.0  # an hour of audio is 115 MB; a container has 64 MB unless told otherwise


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
            "docker run --shm-size=8g (Kubernetes: an emptyDir of medium Memory); Ray puts its "
            "objects into /tmp else, which is slow."
            if is_small
            else "",
        )


def _temporary(disk: Disk) -> Finding:
    what = f"Ray's logs and spilled objects ({disk.path}): {disk.free_gib:.0f} GiB free"
    if disk.used_fraction > RAY_FULL:
        what += f", {disk.used_fraction:.0%} full: Ray makes no objects there."
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
        f"{needed_gib:g} GiB hold one CPU replica and the rest of the service." if is_short else "",
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
                "ray stop, if a Ray died here; else ray start --head --port=N --dashboard-port=N.",
            )


def ffmpeg(facts: Facts) -> Iterator[Finding]:
    if facts.av_failure is not None:
        what = f"PyAV does not decode: {facts.av_failure}"
        yield Finding("ffmpeg", "red", what, "pip install --force-reinstall av==18.1.0")
    elif facts.missing_decoders:
        what = f"PyAV's FFmpeg lacks {', '.join(facts.missing_decoders)}."
        yield Finding("ffmpeg", "yellow", what, "Install PyAV's wheel from PyPI: it has them.")
    else:
        yield Finding("ffmpeg", "green", "PyAV decodes; FFmpeg's common decoders are there.")


def weights(facts: Facts) -> Iterator[Finding]:
    """The hubs and the cache: one of them must have every model."""
    missing = [ref for ref, is_there in facts.weights.items() if not is_there]
    if facts.hubs:
        yield Finding("hub", "green", f"{' and '.join(facts.hubs)} can be reached.")
    elif facts.is_offline:
        yield Finding("hub", "green", "models.offline is set: no hub is asked.")
    else:
        yield Finding(
            "hub",
            "yellow" if missing else "green",
            "Neither ModelScope nor Hugging Face can be reached from here.",
            "HTTPS_PROXY, or a mirror: MODELSCOPE_DOMAIN, HF_ENDPOINT." if missing else "",
        )
    if not missing:
        yield Finding("weights", "green", f"Cached: {', '.join(facts.weights)}.")
        return
    fetch = f"python -m deployments.weights fetch {' '.join(missing)}"
    where = "" if facts.hubs else " where a hub can be reached, then copy the cache's directory"
    yield Finding(
        "weights",
        "yellow" if facts.hubs else "red",
        f"Not cached: {', '.join(missing)}.",
        fetch + where,
    )


def ray(facts: Facts) -> Iterator[Finding]:
    """The running cluster's view of this node, where one runs."""
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
            f"{what}, where NVML finds {n_gpus}.",
            "Restart Ray on this node; check --num-gpus and CUDA_VISIBLE_DEVICES.",
        )
    else:
        yield Finding("ray", "green", f"{what}.")


def versions(facts: Facts) -> Iterator[Finding]:
    """What is installed against the pins: every node of a cluster needs the same Ray."""
    for version in facts.versions:
        name, has, pin = version.package, version.installed, version.pinned
        if has is None:
            yield Finding("version", "red", f"{name} is not installed.", "make setup")
        elif pin is None:
            what = f"{name} {has}; the pins are not known here."
            yield Finding("version", "yellow", what, "pip install --no-deps .")
        elif has.split("+")[0] != pin:
            level: Level = "red" if name == "ray" else "yellow"
            yield Finding("version", level, f"{name} {has}, where {pin} is pinned.", "make setup")
        else:
            yield Finding("version", "green", f"{name} {has}.")


CHECKS: tuple[Callable[[Facts], Iterator[Finding]], ...] = (
    gpus,
    driver,
    architectures,
    memory,
    disks,
    ports,
    ffmpeg,
    weights,
    ray,
    versions,
)
