"""Memory does not grow with the number of batches, and a batch that does not fit is halved."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch

from benchmarks.material import random_models, synthetic_audio
from deployments.core.chunks import Chunk, ChunkRunner
from deployments.core.types import SAMPLE_RATE_HZ, Hints
from deployments.engines.packed import Rows
from deployments.engines.paraformer.engine import Paraformer
from deployments.engines.protocols import EngineSettings
from tests.engines.conftest import Case

NO_HINTS = Hints()
FRAMES_PER_S = 100  # of the features, the largest allocation
ROOM_S = 5.0  # padded seconds that fit into the fake memory


class SmallMemory(Paraformer):
    """Raises torch's out-of-memory error for a batch that is larger than the room."""

    refused: int = 0

    def _rows(self, lengths: Sequence[int]) -> Rows:
        if len(lengths) * max(lengths) / FRAMES_PER_S > ROOM_S:
            self.refused += 1
            raise torch.OutOfMemoryError("the pretended memory is full")
        return super()._rows(lengths)


def runner(engine: Paraformer, budget_s: float) -> ChunkRunner:
    made = ChunkRunner(engine.transcribe, engine="test", replica="1")
    made.budget_ms = round(budget_s * 1000)
    return made


def chunk(audios: Sequence[Any]) -> Chunk:
    return Chunk(np.concatenate(audios), tuple(len(a) for a in audios), NO_HINTS)


@pytest.mark.slow
def test_a_batch_that_does_not_fit_is_halved_and_nothing_is_lost(case: Case) -> None:
    engine = SmallMemory(case.model_dir, EngineSettings())
    audios = [audio for audio in case.audios if len(audio) > SAMPLE_RATE_HZ // 2][:24]
    one = runner(engine, budget_s=60)

    [result] = one.run([chunk(audios)])

    assert list(result.recognitions) == case.engine.transcribe(audios, NO_HINTS)
    assert engine.refused > 0
    assert one.n_out_of_memory > 0
    assert one.budget_ms <= 30_000
    refused = engine.refused
    one.budget_ms = min(one.budget_ms, round(ROOM_S * 1000))
    one.run([chunk(audios)])
    assert engine.refused == refused


def test_a_segment_that_never_fits_is_the_only_one_lost(case: Case) -> None:
    engine = SmallMemory(case.model_dir, EngineSettings())
    long = synthetic_audio.voice(6000, seed=1)
    short = synthetic_audio.voice(900, seed=2)

    [result] = runner(engine, budget_s=60).run([chunk([short, long, short])])

    assert [r.error is None for r in result.recognitions] == [True, False, True]
    assert str(result.recognitions[1].error).endswith("OutOfMemory")


def resident_after_1000_batches(engine: Paraformer, rng: np.random.Generator) -> int:
    """The resident bytes of this process after 1000 more batches of random lengths."""
    voice = synthetic_audio.voice(20_000, seed=1)
    for _ in range(1000):
        lengths = rng.integers(1600, 8000, rng.integers(1, 4))
        engine.transcribe([voice[: int(n)] for n in lengths], NO_HINTS)
    gc.collect()
    return int(psutil.Process().memory_info().rss)


@pytest.mark.slow
def test_memory_does_not_grow_from_batch_1000_to_10000(tmp_path: Path) -> None:
    engine = Paraformer(random_models.write_paraformer(tmp_path), EngineSettings())
    rng = np.random.default_rng(1)

    resident = [resident_after_1000_batches(engine, rng) for _ in range(10)]

    assert max(resident[1:]) <= 1.02 * resident[0]


def test_an_engine_that_nobody_holds_is_gone_without_the_collector(seaco_case: Case) -> None:
    gc.disable()
    try:
        engine = Paraformer(seaco_case.model_dir, EngineSettings())
        engine.transcribe(seaco_case.audios[:2], Hints(hotwords=("天 气",)))
        held = weakref.ref(engine), weakref.ref(engine._model)

        del engine

        assert [ref() is None for ref in held] == [True, True]
    finally:
        gc.enable()
