"""What an ASR replica does with the chunks that wait for it, without Ray and without a model."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from deployments.core.batching import pack, padded_ms, transcribe_or_halve
from deployments.core.types import SAMPLES_PER_MS, Audio, ChunkResult, Hints, Recognition

Transcribe = Callable[[Sequence[Audio], Hints], list[Recognition]]


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


class ChunkRunner:
    """Runs chunks through an engine in batches within a budget, and says what they cost.

    `budget_ms` caps a batch's padded audio; it is halved where memory runs out (DESIGN 6).
    `memory_ms`, where it is known, is what the device holds: no budget is above it.
    """

    def __init__(
        self,
        transcribe: Transcribe,
        *,
        engine: str,
        replica: str,
        memory_ms: int | None = None,
    ) -> None:
        self._transcribe = transcribe
        self._engine, self._replica = engine, replica
        self.memory_ms = memory_ms
        self.budget_ms = 0
        self.n_out_of_memory = 0
        self.n_failed_in_a_row = 0  # calls of `run` in which no segment could be read

    def allow(self, budget_ms: int) -> None:
        """Sets the budget to this, or to what the device holds where that is less."""
        held_ms = budget_ms if self.memory_ms is None else self.memory_ms
        self.budget_ms = min(budget_ms, held_ms)

    def fits(self, taken: Sequence[Chunk], chunk: Chunk) -> bool:
        """Whether the chunk can share a batch with those taken: same hints, within the budget."""
        lengths_ms = [length for c in (*taken, chunk) for length in c.lengths_ms]
        return chunk.hints == taken[0].hints and padded_ms(lengths_ms) <= self.budget_ms

    def run(self, chunks: Sequence[Chunk]) -> list[ChunkResult]:
        """One result per chunk, recognitions in the chunk's own order."""
        began_s = time.monotonic()
        hints = chunks[0].hints
        items = [item for chunk in chunks for item in chunk.items]
        lengths_ms = [length for chunk in chunks for length in chunk.lengths_ms]
        answers: dict[int, Recognition] = {}
        cost_ms = 0
        seen = self.n_out_of_memory
        for batch in pack(lengths_ms, budget_ms=self.budget_ms):
            outcome = transcribe_or_halve(
                lambda some: self._transcribe(some, hints), [items[i] for i in batch]
            )
            answers.update(zip(batch, outcome.recognitions, strict=True))
            batch_ms = padded_ms([lengths_ms[i] for i in batch])
            cost_ms += batch_ms
            if outcome.out_of_memory:
                self.n_out_of_memory += 1
            if outcome.out_of_memory and len(batch) > 1:  # one segment cannot be made smaller
                self.budget_ms = min(self.budget_ms, batch_ms // 2)
        busy_ms = (time.monotonic() - began_s) * 1000
        all_failed = all(answer.error for answer in answers.values())
        self.n_failed_in_a_row = self.n_failed_in_a_row + 1 if all_failed else 0
        first, *others = self._share(chunks, answers, cost_ms, busy_ms)
        return [replace(first, n_out_of_memory=self.n_out_of_memory - seen), *others]

    def _share(
        self,
        chunks: Sequence[Chunk],
        answers: dict[int, Recognition],
        cost_ms: int,
        busy_ms: float,
    ) -> list[ChunkResult]:
        """Each chunk's answers, and its part of the cost by its part of the audio."""
        total_ms = max(1, sum(sum(chunk.lengths_ms) for chunk in chunks))
        results, at = [], 0
        for chunk in chunks:
            part = sum(chunk.lengths_ms) / total_ms
            mine = tuple(answers[at + i] for i in range(len(chunk.lengths)))
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
                )
            )
        return results
