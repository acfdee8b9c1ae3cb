"""Which chunks share a batch on a replica, and that they are read as if alone."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
import pytest

from deployments.core.chunks import Chunk, ChunkRunner
from deployments.core.hotwords import check_hotwords
from deployments.core.types import Audio, Hints, Recognition


def chunk_of(*lengths_ms: int, hotwords: Sequence[str] = ()) -> Chunk:
    lengths = tuple(16 * n_ms for n_ms in lengths_ms)
    hints = Hints(hotwords=check_hotwords(hotwords, max_hotwords=9))
    return Chunk(np.ones(sum(lengths), np.int16), lengths, hints)


def runner(batches: list[tuple[int, Hints]]) -> ChunkRunner:
    def note(batch: Sequence[Audio], hints: Hints) -> list[Recognition]:
        batches.append((len(batch), hints))
        return [Recognition(f"{len(item) // 16}") for item in batch]

    made = ChunkRunner(note, engine="test", replica="r")
    made.budget_ms = 6000
    return made


@pytest.mark.parametrize(
    ("mine", "other", "fit"),
    [
        (("魔搭", "达摩院"), ("魔搭", "达摩院"), True),
        (("魔搭 ", "魔搭"), ("魔搭",), True),
        ((), (), True),
        (("魔搭", "达摩院"), ("达摩院", "魔搭"), False),
        (("魔搭",), (), False),
    ],
)
def test_only_requests_with_equal_hotwords_share_a_batch(
    mine: tuple[str, ...], other: tuple[str, ...], fit: bool
) -> None:
    taken = chunk_of(1000, hotwords=mine)

    assert runner([]).fits([taken], chunk_of(2000, hotwords=other)) is fit


def test_chunks_that_would_be_padded_over_the_budget_do_not_share_a_batch() -> None:
    assert runner([]).fits([chunk_of(1000, 2000)], chunk_of(2000))
    assert not runner([]).fits([chunk_of(1000, 2000)], chunk_of(3000))


def test_a_shared_batch_answers_each_chunk_with_its_own() -> None:
    batches: list[tuple[int, Hints]] = []
    chunks = [chunk_of(1000, 2000, hotwords=["魔搭"]), chunk_of(1500, hotwords=["魔搭"])]

    results = runner(batches).run(chunks)

    assert batches == [(3, Hints(hotwords=("魔搭",)))]
    assert [[r.text for r in result.recognitions] for result in results] == [
        ["1000", "2000"],
        ["1500"],
    ]


def test_the_next_batch_is_copied_in_while_one_is_read() -> None:
    """Each batch comes back as `copy_in` made it, and the next one's copy has begun by then."""
    begun: list[int] = []
    next_has_begun = threading.Event()

    def copy_in(batch: Sequence[Audio]) -> Sequence[Audio]:
        begun.append(len(batch[0]) // 16)
        if len(begun) > 1:
            next_has_begun.set()
        return tuple(batch)

    def read(batch: Sequence[Audio], hints: Hints) -> list[Recognition]:
        assert isinstance(batch, tuple)
        assert next_has_begun.wait(timeout=5)
        return [Recognition(f"{len(item) // 16}") for item in batch]

    one = ChunkRunner(read, engine="test", replica="r", copy_in=copy_in)
    one.budget_ms = 9000

    found, _ = one.read(chunk_of(3000, 9000, 6000).items, Hints())

    assert [recognition.text for recognition in found] == ["3000", "9000", "6000"]
    assert begun == [9000, 6000, 3000]
