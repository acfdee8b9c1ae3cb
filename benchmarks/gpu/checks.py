"""The input of the `gpu` benchmark's sections, and the sections that check results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.engines.agreement import agreement
from benchmarks.engines.paraformer import HALF, read_all
from benchmarks.gpu.pipeline import NO_HINTS, Pipeline, Run, Setup, batches_of, chunk_of
from benchmarks.results import Figures
from deployments.core.chunks import ChunkRunner
from deployments.core.errors import OutOfMemory
from deployments.core.segments import segment_audio
from deployments.core.types import SAMPLES_PER_MS, Audio, Hints, Recognition
from deployments.engines.calibration import CudaMemory
from deployments.engines.paraformer.engine import DTYPES, Paraformer
from deployments.engines.protocols import EngineSettings

N_AGREEMENT, BATCH_SIZES = 64, (1, 8, 32)  # segments compared, and sizes of a batch
PRETENDED_ROOM_MS = 8000  # padded audio that pretends to fill a CPU's memory


@dataclass(frozen=True, slots=True)
class Bench:
    """The input of every section."""

    setup: Setup
    pipeline: Pipeline
    audios: list[Audio]
    hour: Audio
    run: Run  # the first pass over the audios: it warms up, and finds the segments
    repeats: int
    replicas: tuple[int, ...]
    root: Path

    def pieces(self) -> list[Audio]:
        """The segments of all recordings."""
        return [
            segment_audio(audio, segment)
            for audio, own in zip(self.audios, self.run.segments, strict=True)
            for segment in own
        ]


def agreements(bench: Bench) -> Figures:
    """The part of the words that each format shares with fp32, for each size of a batch.

    The fp32 engine reads the segments one at a time.
    """
    device = bench.setup.device
    pieces = sorted(bench.pieces()[:N_AGREEMENT], key=len)
    model_dir = bench.setup.models / "asr"
    exact = Paraformer(model_dir, EngineSettings(device=device))
    expected = read_all(exact, pieces, [[i] for i in range(len(pieces))])
    figures: Figures = {"agreement_segments": len(pieces)}
    dtypes = DTYPES if device == "cuda" else {"cpu": ("fp32", *HALF["cpu"])}
    for dtype in ("fp32", "fp16", "bf16"):
        settings = EngineSettings(device=device, dtype=dtype)
        engine = Paraformer(model_dir, settings, dtypes=dtypes, by_item=False)
        for n in BATCH_SIZES:
            batches = [list(range(len(pieces)))[at : at + n] for at in range(0, len(pieces), n)]
            found = read_all(engine, pieces, batches)
            figures[f"agreement_{dtype}_batch_{n}"] = agreement(found, expected)
    return figures


def out_of_memory(bench: Bench) -> Figures:
    """A batch that does not fit in memory: whether all segments come back, with the same words."""
    pieces, runner = bench.pieces(), bench.pipeline.runner()
    batch = [pieces[i] for i in max(batches_of(pieces, runner), key=len)]
    expected = bench.pipeline.asr.transcribe(batch, NO_HINTS)
    if bench.setup.device == "cuda":
        found = with_less_memory(runner, batch, bench.pipeline.asr)
    else:
        small = ChunkRunner(in_little_room(bench.pipeline.asr), engine="", replica="")
        small.budget_ms, runner = runner.budget_ms, small
        found = runner.run([chunk_of(batch)])[0].recognitions
    return {
        "oom_segments": len(batch),
        "oom_halved": runner.n_out_of_memory,
        "oom_lost": sum(r.error is not None for r in found),
        "oom_same_text": int([r.text for r in found] == [r.text for r in expected]),
        "oom_budget_s_after": runner.budget_ms / 1000,
    }


def with_less_memory(
    runner: ChunkRunner, batch: Sequence[Audio], engine: Paraformer
) -> tuple[Recognition, ...]:
    """Reads the batch with torch's allocator capped.

    The cap leaves room for the weights and half of the memory that the batch needs.
    """
    memory = CudaMemory()
    memory.reset()
    held = torch.cuda.memory_reserved()
    engine.transcribe(batch, NO_HINTS)
    allowed = held + (memory.peak_bytes() - held) / 2
    memory.reset()
    total = torch.cuda.mem_get_info()[1]
    before = torch.cuda.get_per_process_memory_fraction()
    torch.cuda.set_per_process_memory_fraction(allowed / total)
    try:
        return runner.run([chunk_of(batch)])[0].recognitions
    finally:
        torch.cuda.set_per_process_memory_fraction(before)


def in_little_room(engine: Paraformer) -> Callable[[Sequence[Audio], Hints], list[Recognition]]:
    """The engine's `transcribe`, which raises OutOfMemory above PRETENDED_ROOM_MS."""

    def transcribe(batch: Sequence[Audio], hints: Hints) -> list[Recognition]:
        n_ms = len(batch) * max(map(len, batch)) // SAMPLES_PER_MS
        if len(batch) > 1 and n_ms > PRETENDED_ROOM_MS:
            raise OutOfMemory("the pretended memory is full")
        return engine.transcribe(batch, hints)

    return transcribe
