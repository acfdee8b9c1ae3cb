"""Tests that need a GPU: real memory, and the same words as on a CPU (`pytest -m gpu`)."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.material import synthetic_audio
from benchmarks.material.recordings import shuffled_meeting
from deployments.core.chunks import Chunk, ChunkRunner
from deployments.core.errors import ModelUnavailable, OutOfMemory
from deployments.core.types import MarkedWord, PunctuationTask
from deployments.engines.calibration import CudaMemory, cuda_budget_ms
from deployments.engines.ct_transformer.engine import CtTransformer
from deployments.engines.device import MIB
from deployments.engines.fsmn_vad.engine import FsmnVad
from deployments.engines.paraformer import cif
from deployments.engines.paraformer.engine import Paraformer
from deployments.engines.protocols import EngineSettings
from tests.engines.conftest import Case
from tests.engines.paraformer.test_precision import NO_HINTS, agreement
from tests.engines.reference import differences

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU is here"),
]
ON_GPU = EngineSettings(device="cuda")
LEAST_AGREEMENT = {"fp16": 0.97, "bf16": 0.8}


@pytest.fixture(autouse=True)
def _whole_card() -> Iterator[None]:
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)
    torch.cuda.empty_cache()


@pytest.mark.parametrize("batch", [1, 15, 105])
def test_in_fp32_every_segment_reads_as_funasr_alone(case: Case, batch: int) -> None:
    engine = Paraformer(case.model_dir, ON_GPU)

    found = [
        r for i in range(0, 105, batch) for r in engine.read(case.audios[i : i + batch], NO_HINTS)
    ]

    mismatches, _ = differences(case.engine, case.audios, found, case.expected)
    assert mismatches == []


def test_a_batch_whose_copy_began_before_reads_the_same(case: Case) -> None:
    engine = Paraformer(case.model_dir, ON_GPU)
    runner = ChunkRunner(engine.transcribe, engine="", replica="", copy_in=engine.copy_in)
    runner.allow(10_000)  # many batches

    found, _ = runner.read(case.audios, NO_HINTS)

    alone = ChunkRunner(engine.transcribe, engine="", replica="")
    alone.allow(10_000)
    assert found == alone.read(case.audios, NO_HINTS)[0]


def test_calls_that_are_prepared_while_others_run_read_the_same(case: Case) -> None:
    engine = Paraformer(case.model_dir, ON_GPU)
    runner = ChunkRunner(engine.transcribe, engine="", replica="", copy_in=engine.copy_in)
    plain = ChunkRunner(engine.transcribe, engine="", replica="")
    for one in (runner, plain):
        one.allow(10_000)
    chunks = [Chunk(audio, (len(audio),), NO_HINTS) for audio in case.audios[:12]]
    calls = [chunks[at : at + 3] for at in range(0, len(chunks), 3)]

    found, coming = [], runner.prepare(calls[0])
    for following in [*calls[1:], None]:
        running, coming = coming, runner.prepare(following) if following else []
        found += [result.recognitions for result in runner.run(running)]

    assert found == [result.recognitions for call in calls for result in plain.run(call)]


@pytest.mark.parametrize("doubt", [cif.DOUBT, 1.0], ids=["few rows doubtful", "all doubtful"])
def test_a_batch_waits_for_the_card_twice(
    case: Case, monkeypatch: pytest.MonkeyPatch, doubt: float
) -> None:
    """CUDA counts the waits. `test_host_waits` counts them on a fake card."""
    engine = Paraformer(case.model_dir, ON_GPU)
    monkeypatch.setattr(cif, "DOUBT", doubt)
    engine.read(case.audios[:12], NO_HINTS)  # the first use loads libraries and may wait

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            engine.read(case.audios[:12], NO_HINTS)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    assert sum("synchronizing" in str(one.message) for one in said) == 2


@pytest.mark.parametrize("dtype", LEAST_AGREEMENT)
def test_half_precision_reads_nearly_the_same(case: Case, dtype: str) -> None:
    engine = Paraformer(case.model_dir, EngineSettings(device="cuda", dtype=dtype))

    found = engine.read(case.audios, NO_HINTS)

    assert agreement(found, case.expected) >= LEAST_AGREEMENT[dtype]


def test_the_vad_finds_the_spans_of_a_cpu(tiny_vad_dir: Path) -> None:
    audio = shuffled_meeting(300_000, seed=1)

    found = FsmnVad(tiny_vad_dir, ON_GPU).detect(audio)

    assert found == FsmnVad(tiny_vad_dir, EngineSettings()).detect(audio)


def test_punctuation_has_the_marks_of_a_cpu(punctuation_dir: Path) -> None:
    words = tuple("我们今天去北京看看天气怎么样" * 40)

    def marked(settings: EngineSettings) -> tuple[MarkedWord, ...]:
        engine = CtTransformer(punctuation_dir, settings)
        return engine.punctuate([PunctuationTask(words)] * 3)[2].done

    assert marked(ON_GPU) == marked(EngineSettings())


def test_where_the_card_is_too_small_a_batch_is_halved_and_nothing_is_lost(case: Case) -> None:
    engine = Paraformer(case.model_dir, ON_GPU)
    audios = [synthetic_audio.voice(20_000, seed=i) for i in range(16)]
    expected = engine.transcribe(audios, NO_HINTS)
    memory = CudaMemory()
    memory.reset()
    weights = torch.cuda.memory_reserved()
    engine.transcribe(audios, NO_HINTS)
    most = weights + (memory.peak_bytes() - weights) // 2
    memory.reset()
    torch.cuda.set_per_process_memory_fraction(most / torch.cuda.mem_get_info()[1])
    runner = ChunkRunner(engine.transcribe, engine="", replica="")
    runner.allow(1_000_000)

    [result] = runner.run([Chunk(np.concatenate(audios), tuple(len(a) for a in audios), NO_HINTS)])

    assert [r.error for r in result.recognitions] == [None] * len(audios)
    assert [r.text for r in result.recognitions] == [r.text for r in expected]
    assert runner.n_out_of_memory > 0
    assert runner.budget_ms <= 160_000
    assert torch.cuda.memory_reserved() <= most


def test_after_out_of_memory_only_the_weights_are_held(case: Case) -> None:
    engine = Paraformer(case.model_dir, ON_GPU)
    audios = [synthetic_audio.voice(20_000, seed=i) for i in range(16)]
    CudaMemory().reset()
    held = torch.cuda.memory_reserved()
    most = held + 24 * MIB
    torch.cuda.set_per_process_memory_fraction(most / torch.cuda.mem_get_info()[1])

    with pytest.raises(OutOfMemory):
        engine.transcribe(audios, NO_HINTS)

    assert torch.cuda.memory_reserved() <= held + 20 * MIB  # cuBLAS keeps a block


def test_a_calibrated_budget_fits_its_share_and_is_kept(case: Case, tmp_path: Path) -> None:
    settings = EngineSettings(device="cuda", memory_fraction=0.5)
    engine = Paraformer(case.model_dir, settings)

    budget_ms = cuda_budget_ms(engine, settings, tmp_path)

    assert budget_ms is not None
    assert budget_ms > 60_000
    assert cuda_budget_ms(engine, settings, tmp_path) == pytest.approx(budget_ms, rel=0.05)
    assert len(list(tmp_path.iterdir())) == 1
    n_items = min(budget_ms, 3_600_000) // 60_000
    engine.rehearse(n_items, 60_000)  # raises OutOfMemory if the budget is too large


def test_a_fraction_smaller_than_the_context_is_refused(case: Case) -> None:
    settings = EngineSettings(device="cuda", memory_fraction=0.0005)

    with pytest.raises(ModelUnavailable, match="does not even hold CUDA's context"):
        Paraformer(case.model_dir, settings)
