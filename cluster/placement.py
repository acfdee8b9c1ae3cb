"""Which pools a fleet should have. Pure: nodes in, pools out.

The rule so far: VAD and punctuation share the first GPU with one ASR replica, every other GPU
holds two ASR replicas of half a card each (one computes while the other's batch is read); a
fleet without GPUs gets one CPU pool of replicas with one thread each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from cluster.profiles import CPU_SPEED_PER_THREAD, profile
from deployments.config import Pool

ASR_FRACTION = 0.5
VAD_FRACTION = 0.1  # 1.7 MB of weights; the fraction is a CUDA context and 60 s of scores
PUNCTUATION_FRACTION = 0.2  # the zh model's embedding is 279 MB in fp32, the large one's 972
CONTEXT_MIB = 600  # a CUDA context and its libraries, per process
WEIGHTS_MIB = {"fp32": 990, "fp16": 500, "bf16": 500}  # SeACo Paraformer-large
# Activations: twice the peak measured on a CPU in fp32, and half of that; expected, not measured.
MIB_PER_PADDED_S = {"fp32": 2.0, "fp16": 1.0, "bf16": 1.0}
LONGEST_BATCH_S = 1200.0  # beyond it a batch is only slower to come back
CPU_BATCH_S = 30.0  # on a CPU one long segment at a time is as fast as several
MAX_THREADS = 4  # of one model call: more scale badly
CPU_REPLICA_MIB = 2048  # Paraformer-large in fp32, a batch of 30 s, torch and Ray
CPU_ALWAYS_ON = 4  # replicas of a CPU pool that run without work; more start when it comes
OTHERS_CPUS = 0.9  # what the other deployments declare together by default


@dataclass(frozen=True, slots=True)
class Node:
    """One machine of the cluster, as Ray counts it."""

    num_cpus: float
    num_gpus: float = 0.0
    accelerator_type: str = ""
    memory_mib: float | None = None  # None: not known, taken as enough


def resolve_dtype(nodes: Sequence[Node]) -> str:
    """One dtype for all pools (DESIGN 4): fp16 if every GPU has Tensor Cores, else fp32."""
    types = {node.accelerator_type for node in nodes if node.num_gpus}
    return "fp16" if types and all(profile(t).tensor_cores for t in types) else "fp32"


def batch_audio_s(accelerator_type: str, fraction: float, dtype: str) -> float:
    """Padded audio seconds that fit a fraction of a card beside context and weights."""
    share_mib = profile(accelerator_type).memory_mib * fraction
    free_mib = share_mib - CONTEXT_MIB - WEIGHTS_MIB[dtype]
    return max(60.0, min(LONGEST_BATCH_S, free_mib / MIB_PER_PADDED_S[dtype]))


def auto_pools(nodes: Sequence[Node], dtype: str) -> dict[str, Pool]:
    """One pool per GPU type of the fleet; one CPU pool where there is no GPU."""
    gpus: Counter[str] = Counter()
    for node in nodes:
        if node.num_gpus >= 1:
            gpus[node.accelerator_type or "gpu"] += int(node.num_gpus)
    if not gpus:
        return {"cpu": _cpu_pool(nodes)}
    host = max(gpus, key=lambda t: gpus[t])  # its first card also carries VAD and punctuation
    return {
        name: Pool(
            accelerator_type=None if name == "gpu" else name,
            num_cpus=0.5,
            num_gpus=ASR_FRACTION,
            min_replicas=1,
            max_replicas=2 * count - (1 if name == host else 0),
            batch_audio_s=batch_audio_s(name, ASR_FRACTION, dtype),
            speed=profile(name).speed * ASR_FRACTION,
        )
        for name, count in gpus.items()
    }


def auto_stages(nodes: Sequence[Node]) -> tuple[float, float]:
    """GPU fractions of VAD and punctuation: none where there is no GPU."""
    has_gpu = any(node.num_gpus >= 1 for node in nodes)
    return (VAD_FRACTION, PUNCTUATION_FRACTION) if has_gpu else (0.0, 0.0)


def model_threads(nodes: Sequence[Node]) -> int:
    """Threads of one call of the VAD on a CPU: it works on one recording at a time."""
    return int(min(MAX_THREADS, max(1.0, max(node.num_cpus for node in nodes))))


def _cpu_pool(nodes: Sequence[Node]) -> Pool:
    """A replica of one thread for each core, or fewer of more threads where memory is short.

    Two threads of one call wait for each other whenever Ray or another stage takes one of their
    cores; two replicas do not (measured on 2 cores: 10 minutes of audio in 19.8 s against 21.4 s).
    """
    cores = max(1.0, sum(node.num_cpus for node in nodes))
    n_replicas = max(1, sum(_n_replicas(node) for node in nodes))
    threads = int(min(MAX_THREADS, max(1.0, cores // n_replicas)))
    return Pool(
        num_cpus=max(0.1, round((cores - OTHERS_CPUS) / n_replicas - 0.05, 1)),
        num_threads=threads,
        min_replicas=min(n_replicas, CPU_ALWAYS_ON),
        max_replicas=n_replicas,
        batch_audio_s=CPU_BATCH_S,
        speed=CPU_SPEED_PER_THREAD * threads,
    )


def _n_replicas(node: Node) -> int:
    """How many replicas a machine's cores and memory hold."""
    cores = int(node.num_cpus)
    return cores if node.memory_mib is None else min(cores, int(node.memory_mib / CPU_REPLICA_MIB))
