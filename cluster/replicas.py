"""A simulated replica, and which of a pool's Serve gives a chunk to."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from deployments.core.events import Order


@dataclass(slots=True)
class Replica:
    """What it has; `gpu` is its number in its pool, whose speed it has."""

    pool: str
    name: str
    gpu: int
    factor: float  # on its times
    waiting: deque[Order] = field(default_factory=deque)
    running: list[Order] = field(default_factory=list)
    batch: int = 0  # number of what runs; what a dead one had planned is void

    @property
    def ongoing(self) -> int:
        return len(self.waiting) + len(self.running)


@dataclass(frozen=True, slots=True)
class Batches:
    """What a replica does at once: one batch, or several where small chunks wait together."""

    number: int  # as `Replica.batch`
    n_batches: int
    padded_ms: int
    busy_ms: float


def serves_choice(here: Sequence[Replica], most: int, rng: random.Random) -> Sequence[Replica]:
    """Two at random, of which the less busy is taken; all of them where both have `most`."""
    if len(here) <= 2:
        return here
    two = rng.sample(here, 2)
    full = all(replica.ongoing >= most for replica in two)
    return here if full else two  # Serve tries others after a while
