"""How much padding the batches of a replica hold, on speech of the usual lengths."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import pytest

from deployments.core.batching import MAX_WASTE
from deployments.core.chunks import Chunk, ChunkRunner
from deployments.core.types import SAMPLES_PER_MS, Audio, Hints, Recognition

NO_HINTS = Hints()
HOUR_S, SHORT_S = 3600.0, 20.0


def segment_lengths_ms(total_s: float, seed: int) -> list[int]:
    """Segments of 1 to 30 s, log-normal with a median of 6.7 s, until the time is filled."""
    rng = random.Random(seed)
    lengths_ms: list[int] = []
    while sum(lengths_ms) < total_s * 1000:
        lengths_ms.append(round(min(30, max(1, rng.lognormvariate(1.9, 0.7))) * 1000))
    return lengths_ms


def chunk(lengths_ms: Sequence[int]) -> Chunk:
    lengths = tuple(n_ms * SAMPLES_PER_MS for n_ms in lengths_ms)
    return Chunk(np.zeros(sum(lengths), np.int16), lengths, NO_HINTS)


def silent(batch: Sequence[Audio], hints: Hints) -> list[Recognition]:
    return [Recognition("")] * len(batch)


def runner(budget_s: int) -> ChunkRunner:
    made = ChunkRunner(silent, engine="silent", replica="1")
    made.budget_ms = budget_s * 1000
    return made


def waste(runs: Sequence[Sequence[Chunk]], one: ChunkRunner) -> float:
    """Padding over real audio of these runs; 0.08 is 8 %."""
    padded_ms = sum(result.padded_ms for chunks in runs for result in one.run(chunks))
    real_ms = sum(sum(c.lengths_ms) for chunks in runs for c in chunks)
    return padded_ms / real_ms - 1


def taken_together(waiting: Sequence[Chunk], one: ChunkRunner) -> list[list[Chunk]]:
    """Which chunks share a run, as `Owner` takes them: the first, and all later ones that fit."""
    runs: list[list[Chunk]] = []
    left = list(waiting)
    while left:
        taken, waiting, left = [left[0]], left[1:], []
        for other in waiting:
            (taken if one.fits(taken, other) else left).append(other)
        runs.append(taken)
    return runs


@pytest.mark.parametrize("budget_s", [30, 60, 120, 300, 600, 1200])
@pytest.mark.parametrize("seed", [1, 2])
def test_an_hour_of_speech_holds_less_than_8_percent_of_padding(budget_s: int, seed: int) -> None:
    one = runner(budget_s)

    found = waste([[chunk(segment_lengths_ms(HOUR_S, seed))]], one)

    assert 0 <= found < 0.08


@pytest.mark.parametrize("budget_s", [30, 120, 600])
@pytest.mark.parametrize("n_requests", [1, 8, 64])
def test_short_requests_that_wait_together_are_padded_little(
    n_requests: int, budget_s: int
) -> None:
    one = runner(budget_s)
    waiting = [chunk(segment_lengths_ms(SHORT_S, seed)) for seed in range(n_requests)]

    found = waste(taken_together(waiting, one), one)

    assert found < MAX_WASTE + 0.04  # a batch of a few segments may hold two seconds more


def test_a_short_and_a_long_segment_do_not_share_a_batch() -> None:
    together: list[int] = []

    def count(batch: Sequence[Audio], hints: Hints) -> list[Recognition]:
        together.append(len(batch))
        return silent(batch, hints)

    one = ChunkRunner(count, engine="counting", replica="1")
    one.budget_ms = 600_000

    one.run([chunk([30_000, 29_500, 1000, 1100])])

    assert together == [2, 2]
