"""The parts of the machine that a benchmark uses: cores, a free port, environment variables."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

from cluster.planning.placement import Node, auto_pools
from deployments.config import Pool


@contextmanager
def cores(count: int) -> Iterator[None]:
    """Restricts this process, and the processes it starts meanwhile, to `count` cores at most.

    Both sides of a comparison then have the same cores. Only Linux can restrict them: elsewhere
    this does nothing.
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


def cpu_pool(n_threads: int, n_replicas: int | None = None) -> Pool:
    """The pool that `pools: auto` makes on a machine with this many cores.

    `n_replicas` replaces the number of replicas; they share the threads evenly.
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


@contextmanager
def environment(defaults: Mapping[str, str]) -> Iterator[None]:
    """Sets those of the variables that are not set yet, and unsets them on leaving.

    The processes that are started meanwhile see them.
    """
    missing = [name for name in defaults if name not in os.environ]
    os.environ.update({name: defaults[name] for name in missing})
    try:
        yield
    finally:
        for name in missing:
            os.environ.pop(name, None)


def free_port() -> int:
    """A port of loopback that no process listens on.

    It lies below the ports that Linux gives to outgoing connections (from 32768), and above those
    of Ray's workers (to 19999). Another process would else take the port before its user does.
    """
    for port in random.sample(range(20_000, 32_000), 100):
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise OSError("100 ports of loopback are taken.")
