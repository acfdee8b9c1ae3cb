"""What a replica does where memory runs out or the engine fails."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from deployments.core.chunks import Chunk, ChunkRunner
from deployments.core.errors import EngineFailed, OutOfMemory
from deployments.core.types import SAMPLES_PER_MS, Audio, Hints, Recognition

SECRET = "CUDA error in process 4711"


def chunk(*lengths_ms: int) -> Chunk:
    lengths = tuple(ms * SAMPLES_PER_MS for ms in lengths_ms)
    return Chunk(np.zeros(sum(lengths), np.int16), lengths, Hints())


def runner(most_ms: int, *, budget_ms: int = 60_000) -> ChunkRunner:
    """One whose device holds `most_ms` of padded audio."""

    def transcribe(batch: Sequence[Audio], hints: Hints) -> list[Recognition]:
        if len(batch) * max(map(len, batch)) > most_ms * SAMPLES_PER_MS:
            raise OutOfMemory(SECRET)
        return [Recognition(str(len(audio) // SAMPLES_PER_MS)) for audio in batch]

    made = ChunkRunner(transcribe, engine="e", replica="r")
    made.budget_ms = budget_ms
    return made


def test_a_batch_that_does_not_fit_is_halved_and_the_cap_follows() -> None:
    small = runner(most_ms=4_000)

    [result] = small.run([chunk(*[1_000] * 8)])

    assert [r.text for r in result.recognitions] == ["1000"] * 8
    assert (small.budget_ms, small.n_out_of_memory) == (4_000, 1)

    small.run([chunk(*[1_000] * 8)])
    assert small.n_out_of_memory == 1  # the second time every batch fits


def test_after_memory_ran_out_the_rest_of_the_call_is_packed_anew() -> None:
    small = runner(most_ms=4_000, budget_ms=8_000)

    [result] = small.run([chunk(*[1_000] * 24)])

    assert [r.text for r in result.recognitions] == ["1000"] * 24
    assert (result.n_out_of_memory, result.padded_ms) == (1, 24_000)


def test_a_result_says_its_audio_and_memory_that_ran_out_is_told_once() -> None:
    small = runner(most_ms=4_000)

    results = small.run([chunk(3_000), chunk(2_500, 500)])

    assert [result.audio_ms for result in results] == [3_000, 3_000]
    assert [result.n_out_of_memory for result in results] == [1, 0]


def test_one_segment_that_never_fits_does_not_shrink_the_batches_of_others() -> None:
    small = runner(most_ms=4_000)

    [result] = small.run([chunk(5_000)])

    assert result.recognitions[0].error == "The engine failed on this segment: OutOfMemory"
    assert small.budget_ms == 60_000


def test_what_the_engine_says_of_the_machine_is_for_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    [result] = runner(most_ms=0).run([chunk(1_000)])

    assert SECRET not in str(result.recognitions)
    assert SECRET in caplog.text


def test_calls_that_read_nothing_are_counted_until_one_reads_something() -> None:
    def transcribe(batch: Sequence[Audio], hints: Hints) -> list[Recognition]:
        if broken:
            raise EngineFailed("sticky")
        return [Recognition("") for _ in batch]

    broken = True
    made = ChunkRunner(transcribe, engine="e", replica="r")
    for _ in range(3):
        made.run([chunk(1_000, 2_000)])
    assert made.n_failed_in_a_row == 3

    broken = False
    made.run([chunk(1_000)])
    assert made.n_failed_in_a_row == 0


def test_a_copy_that_fails_leaves_the_batch_to_the_engine_and_is_told_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def copy_in(batch: Sequence[Audio]) -> Sequence[Audio]:
        raise RuntimeError(SECRET)

    def transcribe(batch: Sequence[Audio], hints: Hints) -> list[Recognition]:
        if broken:
            raise EngineFailed("the context is lost")
        return [Recognition("read") for _ in batch]

    broken = False
    made = ChunkRunner(transcribe, engine="e", replica="r", copy_in=copy_in)
    first, second = made.run([chunk(1_000), chunk(3_000, 9_000)])
    assert [r.text for r in (*first.recognitions, *second.recognitions)] == ["read"] * 3
    assert caplog.text.count("could not be copied ahead") == 1

    broken = True
    results = made.run([chunk(1_000), chunk(9_000)])
    assert all(r.error for result in results for r in result.recognitions)
    assert made.n_failed_in_a_row == 1


def test_nothing_to_read_is_read_with_copying_too() -> None:
    made = ChunkRunner(
        lambda batch, hints: [], engine="e", replica="r", copy_in=lambda batch: batch
    )

    assert made.read([], Hints()) == ([], 0)


def test_only_chunks_with_equal_hints_share_a_batch() -> None:
    made = runner(most_ms=60_000)
    plain, named = (
        chunk(1_000),
        Chunk(np.zeros(16_000, np.int16), (16_000,), Hints(hotwords=("a",))),
    )

    assert made.fits([plain], chunk(2_000))
    assert not made.fits([plain], named)
    assert not made.fits([plain], chunk(31_000))


@pytest.mark.parametrize(
    ("memory_ms", "expected_ms"), [(None, 60_000), (90_000, 60_000), (8_000, 8_000), (0, 0)]
)
def test_no_budget_is_above_what_the_device_holds(memory_ms: int | None, expected_ms: int) -> None:
    made = ChunkRunner(lambda batch, hints: [], engine="e", replica="r", memory_ms=memory_ms)

    made.allow(60_000)

    assert made.budget_ms == expected_ms
