"""How much a replica gets at once: the size of a chunk, and how many chunks."""

from __future__ import annotations

from deployments.core.scheduler.pools import OUTSTANDING_BATCHES, TO_START, PoolState

SMALL = 0.5  # part of the batch budget


def chunk_budget_ms(pool: PoolState, slot_number: int = TO_START, *, gives_way: bool) -> int:
    """The most padded audio of a chunk for a request that is not interactive.

    Chunks are small while interactive requests come (`gives_way`), so that these wait less. They
    are small for an unknown replica: it is known sooner, and nobody waits long behind its chunk.
    """
    full_ms = pool.spec.batch_audio_ms
    return int(full_ms * (SMALL if gives_way or pool.is_unknown(full_ms, slot_number) else 1.0))


def most_batches(*, gives_way: bool) -> int:
    """How many chunks of requests that are not interactive a replica may have."""
    return 1 if gives_way else OUTSTANDING_BATCHES
