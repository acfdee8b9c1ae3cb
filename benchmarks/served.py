"""The product's service as benchmarks run it: models on disk, configuration, cores."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.model_files import asr_tokens, punctuation_tokens
from benchmarks.random_models import (
    PUNC_SHAPES,
    TRUE_ASR_TOKENS,
    Asr,
    Punc,
    Size,
    write_paraformer,
    write_punctuation,
    write_vad,
)
from cluster.placement import Node, auto_pools
from deployments.config import AppConfig, Dtype, Models, Pool
from deployments.core.errors import ModelUnavailable
from deployments.weights.store import ensure

POOL = "cpu"
REAL_VAD = "fsmn-vad"


def say(message: str) -> None:
    """Progress, for a person."""
    print(message, file=sys.stderr, flush=True)


def make_models(root: Path, *, size: Size, punctuation: Punc = Punc.ZH) -> Models:
    """SeACo-Paraformer and CT-Transformer with random weights, and the real VAD where it is had.

    Vocabularies have their true size with tiny networks also: where every word is unknown no mark
    is ever set, and the unfinished sentence, which is read again with each step, grows for ever.
    """
    say(f"Writing models of {size} geometry ...")
    asr = write_paraformer(
        root / "asr", kind=Asr.SEACO, size=size, tokens=asr_tokens(TRUE_ASR_TOKENS)
    )
    words = punctuation_tokens(PUNC_SHAPES[size, punctuation][-1])
    punc = write_punctuation(root / "punc", variant=punctuation, size=size, tokens=words)
    try:
        vad = str(ensure(REAL_VAD).path)
    except ModelUnavailable as error:
        say(f"{error}\nThe VAD has random weights instead.")
        vad = str(write_vad(root / "vad", size=Size.LARGE))
    return Models(vad=vad, asr=str(asr), punctuation=str(punc), offline=True)


def cpu_pool(n_threads: int, n_replicas: int | None = None) -> Pool:
    """What `pools: auto` makes of a machine with this many cores, or that many replicas instead.

    The replicas share the threads evenly.
    """
    [pool] = auto_pools([Node(num_cpus=n_threads)], "fp32").values()
    if n_replicas is None:
        return pool
    n_each = n_threads // n_replicas
    share = pool.num_cpus * pool.max_replicas / n_replicas
    return pool.model_copy(
        update={
            "num_threads": n_each,
            "num_cpus": share,
            "speed": pool.speed * n_each / pool.num_threads,
            "min_replicas": n_replicas,
            "max_replicas": n_replicas,
        }
    )


def configuration(models: Models, pool: Pool, *, dtype: Dtype = "fp32") -> AppConfig:
    """The defaults, with these models and this one pool."""
    return AppConfig(models=models, pools={POOL: pool}, dtype=dtype)


@contextmanager
def cores(count: int) -> Iterator[None]:
    """This process, and what it starts meanwhile, on `count` cores at most, where Linux has them.

    Both sides of a comparison then have the same machine.
    """
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:count])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def free_port() -> int:
    """A port of loopback that nothing listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
