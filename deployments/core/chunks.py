"""How an ASR replica runs chunks through its engine, without Ray and without a model."""

from __future__ import annotations

import logging
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from deployments.core.batching import SLACK_MS, pack, padded_ms, transcribe_or_halve
from deployments.core.types import SAMPLES_PER_MS, Audio, ChunkResult, Hints, Recognition

logger = logging.getLogger("ray.serve")

Transcribe = Callable[[Sequence[Audio], Hints], list[Recognition]]
CopyIn = Callable[[Sequence[Audio]], Sequence[Audio]]  # the same batch, its copy begun


@dataclass(frozen=True, slots=True)
class Chunk:
    """Segments of one request: `samples` holds them end to end, `lengths` counts samples."""

    samples: Audio
    lengths: tuple[int, ...]
    hints: Hints

    @property
    def items(self) -> list[Audio]:
        return np.split(self.samples, np.cumsum(self.lengths)[:-1])

    @property
    def lengths_ms(self) -> list[int]:
        return [-(-length // SAMPLES_PER_MS) for length in self.lengths]


Begun = tuple[list[int], Sequence[Audio]]  # a batch whose copy has begun: item indices, samples


class Prepared(list[Chunk]):
    """Chunks that will run together, and whose first batch is being copied to the device."""

    first: Future[Begun | None] | None = None  # taken by the call of `run` that reads it


class ChunkRunner:
    """Runs chunks through an engine in batches within a budget, and measures their cost.

    `budget_ms` caps a batch's padded audio. When memory runs out, the budget is halved (DESIGN,
    Memory). `memory_ms` is the padded audio that the device holds, where that is known, and no
    budget exceeds it.

    `copy_in` begins the copy of a batch to the device. It runs on another thread while the engine
    reads the batch before, because joining the samples takes time on the host too. If `copy_in`
    fails, the engine gets the batch uncopied and meets any error of the device itself. `prepare`
    begins the copy for the next call. The device holds at most three batches: the one being read,
    the one after it, and the first of the next call.
    """

    def __init__(
        self,
        transcribe: Transcribe,
        *,
        engine: str,
        replica: str,
        memory_ms: int | None = None,
        copy_in: CopyIn | None = None,
    ) -> None:
        self._transcribe = transcribe
        self._copy_in = copy_in
        self._copier = ThreadPoolExecutor(1, "copy-in") if copy_in else None
        self._told_of_copying = False
        self._first: Future[Begun | None] | None = None
        self._engine, self._replica = engine, replica
        self.memory_ms = memory_ms
        self.budget_ms = 0
        self.slack_ms = SLACK_MS
        self.n_batches = 0  # given to the engine, counting the halves of a batch that failed
        self.n_out_of_memory = 0
        self.n_failed_in_a_row = 0  # calls of `run` in which no segment could be read

    def allow(self, budget_ms: int, *, slack_ms: int = SLACK_MS) -> None:
        """Sets the budget, but never above the padded audio that the device holds.

        `slack_ms` is the padding that is accepted rather than one more batch (see `pack`).
        """
        self.slack_ms = slack_ms
        held_ms = budget_ms if self.memory_ms is None else self.memory_ms
        self.budget_ms = min(budget_ms, held_ms)

    def fits(self, taken: Sequence[Chunk], chunk: Chunk) -> bool:
        """Whether the chunk can share a batch with `taken`: equal hints, and within the budget.

        Chunks that need word times and chunks that do not may share one; `run` then gives both
        their times.
        """
        lengths_ms = [length for c in (*taken, chunk) for length in c.lengths_ms]
        equal = replace(chunk.hints, timed=True) == replace(taken[0].hints, timed=True)
        return equal and padded_ms(lengths_ms) <= self.budget_ms

    def prepare(self, chunks: Sequence[Chunk]) -> Sequence[Chunk]:
        """The same chunks, with the copy of their first batch begun.

        The copy is freed with the last reference to the chunks. May be called while another thread
        runs other chunks. If the budget changes before these chunks run, the copy is dropped and
        they are copied again.
        """
        if self._copier is None:
            return chunks
        prepared = Prepared(chunks)
        prepared.first = self._copier.submit(self._first_of, weakref.ref(prepared))
        return prepared

    def run(self, chunks: Sequence[Chunk]) -> list[ChunkResult]:
        """One result per chunk, recognitions in the chunk's own order."""
        self._first = None
        if isinstance(chunks, Prepared):
            self._first, chunks.first = chunks.first, None
        began_s, seen = time.monotonic(), self.n_out_of_memory
        items = [item for chunk in chunks for item in chunk.items]
        n_before = self.n_batches
        hints = replace(chunks[0].hints, timed=any(chunk.hints.timed for chunk in chunks))
        answers, cost_ms = self.read(items, hints, is_one=len(chunks) == 1)
        n_batches = max(1, self.n_batches - n_before)
        busy_ms = (time.monotonic() - began_s) * 1000
        all_failed = all(answer.error for answer in answers)
        self.n_failed_in_a_row = self.n_failed_in_a_row + 1 if all_failed else 0
        first, *others = self._share(chunks, answers, cost_ms, busy_ms, n_batches)
        return [replace(first, n_out_of_memory=self.n_out_of_memory - seen), *others]

    def read(
        self, items: Sequence[Audio], hints: Hints, *, is_one: bool = False
    ) -> tuple[list[Recognition], int]:
        """One recognition per item, and the padded milliseconds of their batches.

        `is_one` says that the items are one chunk, which the scheduler made for one batch.
        """
        lengths_ms = [-(-len(item) // SAMPLES_PER_MS) for item in items]
        answers: dict[int, Recognition] = {}
        cost_ms = 0
        while len(answers) < len(items):
            packed_to_ms = self.budget_ms
            left = [i for i in range(len(items)) if i not in answers]
            batches = self._packed(left, lengths_ms, is_one=is_one)
            for batch, audios in zip(batches, self._ahead(items, batches), strict=True):
                outcome = transcribe_or_halve(lambda some: self._counted(some, hints), audios)
                answers.update(zip(batch, outcome.recognitions, strict=True))
                batch_ms = padded_ms([lengths_ms[i] for i in batch])
                cost_ms += batch_ms
                if outcome.out_of_memory:
                    self.n_out_of_memory += 1
                if outcome.out_of_memory and len(batch) > 1:  # one segment cannot be made smaller
                    self.budget_ms = min(self.budget_ms, batch_ms // 2)
                if self.budget_ms < packed_to_ms:
                    break  # the other batches would not fit either, so they are packed anew
        return [answers[i] for i in range(len(items))], cost_ms

    def _counted(self, batch: Sequence[Audio], hints: Hints) -> list[Recognition]:
        self.n_batches += 1
        return self._transcribe(batch, hints)

    def _packed(
        self, indices: Sequence[int], lengths_ms: Sequence[int], *, is_one: bool
    ) -> list[list[int]]:
        """The indices in batches. One chunk is one batch where the budget allows it."""
        own_ms = [lengths_ms[i] for i in indices]
        whole = is_one and padded_ms(own_ms) <= self.budget_ms
        slack_ms = self.budget_ms if whole else self.slack_ms
        batches = pack(own_ms, budget_ms=self.budget_ms, slack_ms=slack_ms)
        return [[indices[k] for k in batch] for batch in batches]

    def _ahead(
        self, items: Sequence[Audio], batches: Sequence[Sequence[int]]
    ) -> Iterator[Sequence[Audio]]:
        """The items of each batch. The copy of the next batch begins before a batch is yielded."""
        taken = [[items[i] for i in batch] for batch in batches]
        if self._copier is None or self._copy_in is None or not taken:
            yield from taken
            return
        first, self._first = self._first, None
        begun = first.result() if first else None
        del first
        if begun and begun[0] == batches[0]:
            audios = begun[1]
        else:
            audios = self._copier.submit(self._begun, self._copy_in, taken[0]).result()
        del begun  # frees the memory of a copy that is not used
        for after in taken[1:]:
            copying = self._copier.submit(self._begun, self._copy_in, after)
            yield audios
            audios = copying.result()
        yield audios

    def _first_of(self, reference: weakref.ref[Prepared]) -> Begun | None:
        """The first batch of prepared chunks, its copy begun. None if the chunks were dropped."""
        chunks = reference()
        if chunks is None or self._copy_in is None:
            return None
        items = [item for chunk in chunks for item in chunk.items]
        lengths_ms = [length for chunk in chunks for length in chunk.lengths_ms]
        is_one = len(chunks) == 1
        [indices, *_] = self._packed(range(len(items)), lengths_ms, is_one=is_one) or [[]]
        return indices, self._begun(self._copy_in, [items[i] for i in indices])

    def _begun(self, copy_in: CopyIn, batch: Sequence[Audio]) -> Sequence[Audio]:
        """The batch with its copy begun, or the uncopied batch if that fails."""
        try:
            return copy_in(batch)
        except Exception:
            if not self._told_of_copying:
                logger.exception("A batch could not be copied ahead; this is logged once.")
            self._told_of_copying = True
            return batch

    def _share(
        self,
        chunks: Sequence[Chunk],
        answers: Sequence[Recognition],
        cost_ms: int,
        busy_ms: float,
        n_batches: int,
    ) -> list[ChunkResult]:
        """A result for each chunk: its answers, and the cost in proportion to its audio."""
        total_ms = max(1, sum(sum(chunk.lengths_ms) for chunk in chunks))
        results, at = [], 0
        for chunk in chunks:
            part = sum(chunk.lengths_ms) / total_ms
            mine = tuple(answers[at : at + len(chunk.lengths)])
            at += len(chunk.lengths)
            results.append(
                ChunkResult(
                    recognitions=mine,
                    replica=self._replica,
                    engine=self._engine,
                    padded_ms=round(cost_ms * part),
                    busy_ms=busy_ms * part,
                    share=part,
                    audio_ms=sum(chunk.lengths_ms),
                    n_batches=n_batches,
                )
            )
        return results
