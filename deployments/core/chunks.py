"""What an ASR replica does with the chunks that wait for it, without Ray and without a model."""

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
CopyIn = Callable[[Sequence[Audio]], Sequence[Audio]]  # the same batch, on its way to the device


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


Begun = tuple[list[int], Sequence[Audio]]  # a batch on its way: which items, and the batch


class Prepared(list[Chunk]):
    """Chunks that will be run together; the copy of their first batch has begun."""

    first: Future[Begun | None] | None = None  # taken by the call that reads it


class ChunkRunner:
    """Runs chunks through an engine in batches within a budget, and says what they cost.

    `budget_ms` caps a batch's padded audio; it is halved where memory runs out (DESIGN 6).
    `memory_ms`, where it is known, is what the device holds: no budget is above it. `copy_in`
    begins a batch's copy to the device; it is called on another thread while the batch before is
    read, because putting the samples together takes the host's time too. Where it fails the
    engine is given the batch as it was, and meets the error itself if it is one of the device.
    `prepare` begins the copy for the next call. At most the batch that is read, the one after it
    and the first of the next call are on the device.
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
        self.n_batches = 0  # that the engine was given, the halves of one that failed among them
        self.n_out_of_memory = 0
        self.n_failed_in_a_row = 0  # calls of `run` in which no segment could be read

    def allow(self, budget_ms: int, *, slack_ms: int = SLACK_MS) -> None:
        """Sets the budget to this, or to what the device holds where that is less.

        `slack_ms` is the padding that is taken rather than a further batch (`pack`).
        """
        self.slack_ms = slack_ms
        held_ms = budget_ms if self.memory_ms is None else self.memory_ms
        self.budget_ms = min(budget_ms, held_ms)

    def fits(self, taken: Sequence[Chunk], chunk: Chunk) -> bool:
        """Whether the chunk can share a batch with those taken: same hints, within the budget."""
        lengths_ms = [length for c in (*taken, chunk) for length in c.lengths_ms]
        return chunk.hints == taken[0].hints and padded_ms(lengths_ms) <= self.budget_ms

    def prepare(self, chunks: Sequence[Chunk]) -> Sequence[Chunk]:
        """The same chunks, the copy of their first batch begun; it ends with the last reference.

        May be called while another thread runs others. Where the budget has become another until
        they are run, that copy is of no use, and they are copied as if they were not prepared.
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
        answers, cost_ms = self.read(items, chunks[0].hints, is_one=len(chunks) == 1)
        n_batches = max(1, self.n_batches - n_before)
        busy_ms = (time.monotonic() - began_s) * 1000
        all_failed = all(answer.error for answer in answers)
        self.n_failed_in_a_row = self.n_failed_in_a_row + 1 if all_failed else 0
        first, *others = self._share(chunks, answers, cost_ms, busy_ms, n_batches)
        return [replace(first, n_out_of_memory=self.n_out_of_memory - seen), *others]

    def read(
        self, items: Sequence[Audio], hints: Hints, *, is_one: bool = False
    ) -> tuple[list[Recognition], int]:
        """One recognition per item, and the padded milliseconds of the batches they were in.

        `is_one`: the items are one chunk, which the scheduler made for one batch.
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
                    break  # what is left is packed anew: it would not fit either
        return [answers[i] for i in range(len(items))], cost_ms

    def _counted(self, batch: Sequence[Audio], hints: Hints) -> list[Recognition]:
        self.n_batches += 1
        return self._transcribe(batch, hints)

    def _packed(
        self, indices: Sequence[int], lengths_ms: Sequence[int], *, is_one: bool
    ) -> list[list[int]]:
        """The indices in batches; those of one chunk in one, where the budget allows it."""
        own_ms = [lengths_ms[i] for i in indices]
        whole = is_one and padded_ms(own_ms) <= self.budget_ms
        slack_ms = self.budget_ms if whole else self.slack_ms
        batches = pack(own_ms, budget_ms=self.budget_ms, slack_ms=slack_ms)
        return [[indices[k] for k in batch] for batch in batches]

    def _ahead(
        self, items: Sequence[Audio], batches: Sequence[Sequence[int]]
    ) -> Iterator[Sequence[Audio]]:
        """The items of each batch; the copy of the next one begins as one is given out."""
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
        del begun  # a copy of no use gives its memory back
        for after in taken[1:]:
            copying = self._copier.submit(self._begun, self._copy_in, after)
            yield audios
            audios = copying.result()
        yield audios

    def _first_of(self, reference: weakref.ref[Prepared]) -> Begun | None:
        """The first batch of prepared chunks, on its way; None where they are let go by now."""
        chunks = reference()
        if chunks is None or self._copy_in is None:
            return None
        items = [item for chunk in chunks for item in chunk.items]
        lengths_ms = [length for chunk in chunks for length in chunk.lengths_ms]
        is_one = len(chunks) == 1
        [indices, *_] = self._packed(range(len(items)), lengths_ms, is_one=is_one) or [[]]
        return indices, self._begun(self._copy_in, [items[i] for i in indices])

    def _begun(self, copy_in: CopyIn, batch: Sequence[Audio]) -> Sequence[Audio]:
        """The batch on its way to the device, or as it is where that fails."""
        try:
            return copy_in(batch)
        except Exception:
            if not self._told_of_copying:
                logger.exception("A batch could not be copied ahead; this is told once.")
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
        """Each chunk's answers, and its part of the cost by its part of the audio."""
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
