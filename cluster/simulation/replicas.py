"""A simulated replica: how it batches its chunks, and when Serve would choose it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from deployments.core.batching import pack, padded_ms, worthwhile_slack_ms
from deployments.core.scheduler.events import Order
from deployments.core.scheduler.planning import PoolSpec


@dataclass(slots=True)
class Replica:
    """A replica, the chunks it runs and the chunks in its queue."""

    pool: str
    name: str
    gpu: int  # number of its GPU within the pool; `Truth.of` has that GPU's speed
    factor: float  # every batch takes this many times as long as the GPU's speed says
    waiting: deque[Order] = field(default_factory=deque)
    running: list[Order] = field(default_factory=list)
    batch: int = 0  # number of the running batch; -1: dead, so that no planned end matches

    @property
    def ongoing(self) -> int:
        return len(self.waiting) + len(self.running)


@dataclass(frozen=True, slots=True)
class Batches:
    """What a replica runs without a break: the batches of one chunk, or of several small ones."""

    number: int  # `Replica.batch` when they began
    n_batches: int
    padded_ms: int
    busy_ms: float


def pop_what_fits(
    waiting: deque[Order], lengths_of: Callable[[Order], list[int]], budget_ms: int
) -> tuple[list[Order], list[int]]:
    """Removes the first chunk from the queue, and those behind it that fit into the same budget.

    Returns these chunks, and the lengths of all their segments.
    """
    taken: list[Order] = []
    lengths_ms: list[int] = []
    while waiting:
        together = [*lengths_ms, *lengths_of(waiting[0])]
        if taken and padded_ms(together) > budget_ms:
            break
        taken.append(waiting.popleft())
        lengths_ms = together
    return taken, lengths_ms


def plan_batches(lengths_ms: Sequence[int], prior: PoolSpec, *, n_chunks: int) -> tuple[int, int]:
    """The number of batches that the chunks become, and their padded audio in ms."""
    slack_ms = prior.batch_audio_ms  # the scheduler made a single chunk to be one batch
    if n_chunks > 1:
        slack_ms = worthwhile_slack_ms(prior.overhead_ms, prior.speed)
    batches = pack(lengths_ms, budget_ms=prior.batch_audio_ms, slack_ms=slack_ms)
    padded = sum(padded_ms([lengths_ms[i] for i in batch]) for batch in batches)
    return len(batches), padded
