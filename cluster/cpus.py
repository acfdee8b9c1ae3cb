"""How the CPUs of a fleet without usable cards are shared. Pure."""

from __future__ import annotations

from cluster.profiles import CPU_SPEED_PER_THREAD
from deployments.config import Pool

MAX_THREADS = 4  # of one model call: more scale badly
BATCH_S = 30.0  # on a CPU one long segment at a time is as fast as several
REPLICA_MIB = 2048  # Paraformer-large in fp32, a batch of 30 s, torch and Ray
ALWAYS_ON = 4  # replicas that run without work; more start when it comes
OTHERS_CPUS = 0.9  # what the other deployments declare together by default


def cpu_pool(cores: float, n_held: int) -> Pool:
    """A replica of one thread for each core, or fewer of more threads where memory is short.

    `n_held` is what `n_replicas` says of all machines. Two threads of one call wait for each other
    whenever Ray or another stage takes one of their cores; two replicas do not (measured on 2
    cores: 10 minutes of audio in 19.8 s against 21.4 s).
    """
    cores, n_held = max(1.0, cores), max(1, n_held)
    threads = int(min(MAX_THREADS, max(1.0, cores // n_held)))
    return Pool(
        num_cpus=max(0.1, round((cores - OTHERS_CPUS) / n_held - 0.05, 1)),
        num_threads=threads,
        min_replicas=min(n_held, ALWAYS_ON),
        max_replicas=n_held,
        batch_audio_s=BATCH_S,
        speed=CPU_SPEED_PER_THREAD * threads,
    )


def cpu_reasons(cores: float) -> dict[str, str]:
    """Field of the pool -> why it has its value."""
    return {
        "num_gpus": "no machine has a card that can take part",
        "num_cpus": f"{cores:g} cores, {OTHERS_CPUS:g} of them for the other deployments",
        "num_threads": "replicas of one thread wait for nobody; more where memory is short",
        "max_replicas": f"one a core, and {REPLICA_MIB} MiB of memory each",
        "min_replicas": f"at most {ALWAYS_ON} without work",
        "batch_audio_s": "on a CPU one long segment at a time is as fast as several",
        "speed": f"prior: {CPU_SPEED_PER_THREAD:g} audio s/s a thread, fp32",
    }


def n_replicas(num_cpus: float, memory_mib: float | None) -> int:
    """How many replicas a machine's cores and memory hold; memory None: enough."""
    cores = int(num_cpus)
    return cores if memory_mib is None else min(cores, int(memory_mib / REPLICA_MIB))
