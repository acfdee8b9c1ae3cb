"""Batches by padded cost, and the halving of a batch that fails."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from deployments.core.batching import pack, padded_ms, transcribe_or_halve
from deployments.core.errors import EngineFailed, OutOfMemory
from deployments.core.types import Audio, Recognition


@given(st.lists(st.integers(1, 30_000), max_size=60), st.integers(1, 120_000))
def test_every_item_is_in_one_batch_and_no_batch_is_padded_over_the_budget(
    lengths_ms: list[int], budget_ms: int
) -> None:
    batches = pack(lengths_ms, budget_ms=budget_ms)

    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths_ms)))
    costs = [(len(b), padded_ms([lengths_ms[i] for i in b])) for b in batches]
    assert all(n == 1 or cost <= budget_ms for n, cost in costs)


def _batch(*values: int) -> list[Audio]:
    return [np.array([value], np.int16) for value in values]


def _poisoned(batch: Sequence[Audio]) -> list[Recognition]:
    """Fails whenever 13 is in the batch."""
    if any(item[0] == 13 for item in batch):
        raise EngineFailed("13 is unlucky")
    return [Recognition(str(item[0])) for item in batch]


class SmallCard:
    """Runs out of memory on more than two items; `seen` has the sizes of its batches."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def transcribe(self, batch: Sequence[Audio]) -> list[Recognition]:
        self.seen.append(len(batch))
        if len(batch) > 2:
            raise OutOfMemory("full")
        return [Recognition(str(item[0])) for item in batch]


def test_one_bad_segment_costs_no_other() -> None:
    outcome = transcribe_or_halve(_poisoned, _batch(1, 13, 2, 3, 4))

    assert [r.text for r in outcome.recognitions] == ["1", "", "2", "3", "4"]
    assert outcome.recognitions[1].error == "The engine failed on this segment: EngineFailed"
    assert not outcome.out_of_memory


def test_a_batch_that_does_not_fit_is_halved_until_it_does() -> None:
    card = SmallCard()

    outcome = transcribe_or_halve(card.transcribe, _batch(1, 2, 3, 4, 5))

    assert [r.text for r in outcome.recognitions] == ["1", "2", "3", "4", "5"]
    assert outcome.out_of_memory
    assert card.seen == [5, 2, 3, 1, 2]


def test_padding_that_costs_less_than_one_more_batch_is_accepted() -> None:
    lengths_ms = [10_000, 6_000, 3_000]  # 11 s of padding together

    apart = pack(lengths_ms, budget_ms=60_000)
    together = pack(lengths_ms, budget_ms=60_000, slack_ms=11_000)

    assert (apart, together) == ([[0], [1], [2]], [[0, 1, 2]])
