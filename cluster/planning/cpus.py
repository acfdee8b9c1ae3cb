"""How the CPUs of a fleet without usable cards are shared between replicas. Pure."""

from __future__ import annotations

from cluster.profiles import CPU_SPEED_PER_THREAD
from deployments.config import Pool

MAX_THREADS = 4  # of one model call; more threads scale badly
BATCH_S = 30.0  # on a CPU one long segment at a time is as fast as several
REPLICA_MIB = 2048  # Paraformer-large in fp32, a batch of 30 s, torch and Ray
ALWAYS_ON = 4  # replicas that run also without work
OTHERS_CPUS = 0.9  # CPUs that the other deployments reserve together by default


def cpu_pool(cores: float, n_held: int) -> Pool:
    """One replica of one thread for each core, or fewer with more threads if memory is short.

    `n_held` is the sum of `n_replicas` over all machines. Why one thread: two threads of one call
    wait for each other whenever Ray or another stage takes one of their cores. Two replicas do not
    (measured on 2 cores: 10 minutes of audio in 19.8 s against 21.4 s). See DESIGN, CPU replicas.
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
        "num_gpus": "no machine has a card that can serve",
        "num_cpus": f"{cores:g} cores, of which {OTHERS_CPUS:g} are for the other deployments",
        "num_threads": "replicas of one thread wait for no other; more threads if memory is short",
        "max_replicas": f"one for each core, with {REPLICA_MIB} MiB of memory each",
        "min_replicas": f"at most {ALWAYS_ON} run without work",
        "batch_audio_s": "on a CPU one long segment at a time is as fast as several",
        "speed": f"prior: {CPU_SPEED_PER_THREAD:g} audio s/s a thread, fp32",
    }


def n_replicas(num_cpus: float, memory_mib: float | None) -> int:
    """How many replicas a machine's cores and memory hold. None: memory is not known, so enough."""
    cores = int(num_cpus)
    return cores if memory_mib is None else min(cores, int(memory_mib / REPLICA_MIB))
