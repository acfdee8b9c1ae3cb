"""Which chunks share a batch on a replica, and that they are read as if alone."""

from __future__ import annotations

import threading
import time
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


def test_one_batch_is_copied_ahead_on_its_own_thread_while_one_is_read() -> None:
    """Each batch comes back as `copy_in` made it; the copy after the next one has not begun."""
    copied: list[int] = []
    copied_by_then: list[int] = []
    threads: set[int] = set()
    is_read, is_copied = threading.Event(), threading.Semaphore(0)

    def copy_in(batch: Sequence[Audio]) -> Sequence[Audio]:
        assert not copied or is_read.wait(timeout=5)  # from the second on: while one is read
        threads.add(threading.get_ident())
        copied.append(len(batch[0]) // 16)
        if len(copied) > 1:
            is_copied.release()
        return tuple(batch)

    def read(batch: Sequence[Audio], hints: Hints) -> list[Recognition]:
        assert isinstance(batch, tuple)
        is_read.set()
        if len(copied_by_then) < 3:
            assert is_copied.acquire(timeout=5)
        time.sleep(0.05)  # for a copy too many
        copied_by_then.append(len(copied))
        return [Recognition(f"{len(item) // 16}") for item in batch]

    one = ChunkRunner(read, engine="test", replica="r", copy_in=copy_in)
    one.allow(9000, slack_ms=0)

    found, _ = one.read(chunk_of(3000, 9000, 6000, 4000).items, Hints())

    assert [recognition.text for recognition in found] == ["3000", "9000", "6000", "4000"]
    assert copied == [9000, 6000, 4000, 3000]
    assert copied_by_then == [2, 3, 4, 4]
    assert len(threads) == 1
    assert threading.get_ident() not in threads
