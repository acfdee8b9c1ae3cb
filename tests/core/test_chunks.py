"""A replica's chunks: which share a batch, what is copied ahead, and what failures cost."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

import numpy as np
import pytest

from deployments.core.chunks import Chunk, ChunkRunner
from deployments.core.errors import EngineFailed, OutOfMemory
from deployments.core.hints import check_hotwords
from deployments.core.types import SAMPLES_PER_MS, Audio, Hints, Recognition

SECRET = "CUDA error in process 4711"


def chunk_of(*lengths_ms: int, hotwords: Sequence[str] = (), timed: bool = True) -> Chunk:
    lengths = tuple(16 * n_ms for n_ms in lengths_ms)
    hints = Hints(hotwords=check_hotwords(hotwords, max_hotwords=9), timed=timed)
    return Chunk(np.ones(sum(lengths), np.int16), lengths, hints)


def noting(batches: list[tuple[int, Hints]]) -> ChunkRunner:
    """A runner that appends the size and the hints of every batch to `batches`."""

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

    assert noting([]).fits([taken], chunk_of(2000, hotwords=other)) is fit


@pytest.mark.parametrize(
    ("needs", "read_with_times"),
    [
        ((False,), False),
        ((True,), True),
        ((False, False), False),
        ((False, True), True),
        ((True, False), True),
        ((False, False, True), True),
    ],
)
def test_a_shared_batch_has_word_times_if_any_of_its_requests_needs_them(
    needs: tuple[bool, ...], read_with_times: bool
) -> None:
    batches: list[tuple[int, Hints]] = []
    first, *others = (chunk_of(1000, hotwords=["魔搭"], timed=timed) for timed in needs)
    one = noting(batches)

    assert all(one.fits([first], other) for other in others)
    one.run([first, *others])

    assert batches == [(len(needs), Hints(hotwords=("魔搭",), timed=read_with_times))]


def test_requests_without_times_but_with_other_hotwords_do_not_share_a_batch() -> None:
    taken = chunk_of(1000, hotwords=["魔搭"], timed=False)

    assert not noting([]).fits([taken], chunk_of(1000, timed=False))
    assert not noting([]).fits([taken], chunk_of(1000, hotwords=["达摩院"], timed=True))


def test_chunks_that_would_be_padded_over_the_budget_do_not_share_a_batch() -> None:
    assert noting([]).fits([chunk_of(1000, 2000)], chunk_of(2000))
    assert not noting([]).fits([chunk_of(1000, 2000)], chunk_of(3000))


def test_a_shared_batch_answers_each_chunk_with_its_own() -> None:
    batches: list[tuple[int, Hints]] = []
    chunks = [chunk_of(1000, 2000, hotwords=["魔搭"]), chunk_of(1500, hotwords=["魔搭"])]

    results = noting(batches).run(chunks)

    assert batches == [(3, Hints(hotwords=("魔搭",)))]
    assert [[r.text for r in result.recognitions] for result in results] == [
        ["1000", "2000"],
        ["1500"],
    ]


class FourBatches:
    """A device that gets four batches, copies each as a tuple, and records when it does so.

    Every copy but the first waits until a batch is read. A batch is read until the next copy ends.
    """

    def __init__(self) -> None:
        self.copied: list[int] = []  # milliseconds of the batches
        self.n_copied_by_then: list[int] = []  # at the end of reading each batch
        self.threads: set[int] = set()  # that copied
        self._is_read, self._is_copied = threading.Event(), threading.Semaphore(0)

    def copy_in(self, batch: Sequence[Audio]) -> Sequence[Audio]:
        assert not self.copied or self._is_read.wait(timeout=5)
        self.threads.add(threading.get_ident())
        self.copied.append(len(batch[0]) // 16)
        if len(self.copied) > 1:
            self._is_copied.release()
        return tuple(batch)

    def read(self, batch: Sequence[Audio], hints: Hints) -> list[Recognition]:
        assert isinstance(batch, tuple)  # as `copy_in` made it
        self._is_read.set()
        if len(self.n_copied_by_then) < 3:
            assert self._is_copied.acquire(timeout=5)
        time.sleep(0.05)  # would let one copy too many begin
        self.n_copied_by_then.append(len(self.copied))
        return [Recognition(f"{len(item) // 16}") for item in batch]


def test_one_batch_is_copied_ahead_on_its_own_thread_while_one_is_read() -> None:
    device = FourBatches()
    one = ChunkRunner(device.read, engine="test", replica="r", copy_in=device.copy_in)
    one.allow(9000, slack_ms=0)

    found, _ = one.read(chunk_of(3000, 9000, 6000, 4000).items, Hints())

    assert [recognition.text for recognition in found] == ["3000", "9000", "6000", "4000"]
    assert device.copied == [9000, 6000, 4000, 3000]
    assert device.n_copied_by_then == [2, 3, 4, 4]
    assert len(device.threads) == 1
    assert threading.get_ident() not in device.threads


def runner(most_ms: int, *, budget_ms: int = 60_000) -> ChunkRunner:
    """A runner whose device holds `most_ms` of padded audio."""

    def transcribe(batch: Sequence[Audio], hints: Hints) -> list[Recognition]:
        if len(batch) * max(map(len, batch)) > most_ms * SAMPLES_PER_MS:
            raise OutOfMemory(SECRET)
        return [Recognition(str(len(audio) // SAMPLES_PER_MS)) for audio in batch]

    made = ChunkRunner(transcribe, engine="e", replica="r")
    made.budget_ms = budget_ms
    return made


class Breakable:
    """An engine that reads "read" in every segment, and nothing while it is broken."""

    def __init__(self) -> None:
        self.is_broken = False

    def transcribe(self, batch: Sequence[Audio], hints: Hints) -> list[Recognition]:
        if self.is_broken:
            raise EngineFailed("the context is lost")
        return [Recognition("read") for _ in batch]


def test_a_batch_that_does_not_fit_is_halved_and_the_cap_follows() -> None:
    small = runner(most_ms=4_000)

    [result] = small.run([chunk_of(*[1_000] * 8)])

    assert [r.text for r in result.recognitions] == ["1000"] * 8
    assert (small.budget_ms, small.n_out_of_memory) == (4_000, 1)

    small.run([chunk_of(*[1_000] * 8)])
    assert small.n_out_of_memory == 1  # the second time every batch fits


def test_after_memory_ran_out_the_rest_of_the_call_is_packed_anew() -> None:
    small = runner(most_ms=4_000, budget_ms=8_000)

    [result] = small.run([chunk_of(*[1_000] * 24)])

    assert [r.text for r in result.recognitions] == ["1000"] * 24
    assert (result.n_out_of_memory, result.padded_ms) == (1, 24_000)


def test_a_result_has_its_audio_and_running_out_of_memory_is_counted_once() -> None:
    small = runner(most_ms=4_000)

    results = small.run([chunk_of(3_000), chunk_of(2_500, 500)])

    assert [result.audio_ms for result in results] == [3_000, 3_000]
    assert [result.n_out_of_memory for result in results] == [1, 0]


def test_one_segment_that_never_fits_does_not_shrink_the_batches_of_others() -> None:
    small = runner(most_ms=4_000)

    [result] = small.run([chunk_of(5_000)])

    assert result.recognitions[0].error == "The engine failed on this segment: OutOfMemory"
    assert small.budget_ms == 60_000


def test_the_message_of_an_engines_error_is_for_the_log_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    [result] = runner(most_ms=0).run([chunk_of(1_000)])

    assert SECRET not in str(result.recognitions)
    assert SECRET in caplog.text


def test_calls_that_read_nothing_are_counted_until_one_reads_something() -> None:
    engine = Breakable()
    made = ChunkRunner(engine.transcribe, engine="e", replica="r")

    engine.is_broken = True
    made.run([chunk_of(1_000, 2_000)])
    made.run([chunk_of(1_000, 2_000)])
    made.run([chunk_of(1_000, 2_000)])
    assert made.n_failed_in_a_row == 3

    engine.is_broken = False
    made.run([chunk_of(1_000)])
    assert made.n_failed_in_a_row == 0


def test_a_copy_that_fails_leaves_the_batch_to_the_engine_and_is_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def copy_in(batch: Sequence[Audio]) -> Sequence[Audio]:
        raise RuntimeError(SECRET)

    engine = Breakable()
    made = ChunkRunner(engine.transcribe, engine="e", replica="r", copy_in=copy_in)
    first, second = made.run([chunk_of(1_000), chunk_of(3_000, 9_000)])
    assert [r.text for r in (*first.recognitions, *second.recognitions)] == ["read"] * 3
    assert caplog.text.count("could not be copied ahead") == 1

    engine.is_broken = True
    results = made.run([chunk_of(1_000), chunk_of(9_000)])
    assert all(r.error for result in results for r in result.recognitions)
    assert made.n_failed_in_a_row == 1


def test_no_items_give_no_recognitions_with_copying_too() -> None:
    made = ChunkRunner(
        lambda batch, hints: [], engine="e", replica="r", copy_in=lambda batch: batch
    )

    assert made.read([], Hints()) == ([], 0)


def test_only_chunks_with_equal_hints_share_a_batch() -> None:
    made = runner(most_ms=60_000)
    plain, named = (
        chunk_of(1_000),
        Chunk(np.zeros(16_000, np.int16), (16_000,), Hints(hotwords=("a",))),
    )

    assert made.fits([plain], chunk_of(2_000))
    assert not made.fits([plain], named)
    assert not made.fits([plain], chunk_of(31_000))


@pytest.mark.parametrize(
    ("memory_ms", "expected_ms"), [(None, 60_000), (90_000, 60_000), (8_000, 8_000), (0, 0)]
)
def test_no_budget_is_above_what_the_device_holds(memory_ms: int | None, expected_ms: int) -> None:
    made = ChunkRunner(lambda batch, hints: [], engine="e", replica="r", memory_ms=memory_ms)

    made.allow(60_000)

    assert made.budget_ms == expected_ms
