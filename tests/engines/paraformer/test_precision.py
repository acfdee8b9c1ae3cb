"""Other number formats than float32, and the GPU's way of mixing rows, tried on a CPU.

The weights are random. So agreement shows that the arithmetic is right, and not how much accuracy
a number format costs.
"""

from __future__ import annotations

import runpy
import sys
from difflib import SequenceMatcher

import pytest
import torch
from torch import nn

from deployments.core.types import Hints
from deployments.engines.paraformer import predictor
from deployments.engines.paraformer.engine import Paraformer
from deployments.engines.paraformer.int8 import Int8Linear, int8_lstm, weight_limit
from deployments.engines.paraformer.predictor import run_lstm
from deployments.engines.paraformer.readings import Reading
from deployments.engines.protocols import EngineSettings
from tests.engines.conftest import Case
from tests.engines.reference import differences

NO_HINTS = Hints()
ALL = {"cpu": ("fp32", "int8", "fp16", "bf16")}
LEAST_AGREEMENT = {"int8": 0.85, "fp16": 0.97, "bf16": 0.8}
HOTWORDS = Hints(hotwords=("天 气", "hello"))


def agreement(found: list[Reading], expected: list[Reading]) -> float:
    """The part of the words that two readings share, in order."""
    pairs = list(zip(found, expected, strict=True))
    shared = sum(
        block.size
        for a, b in pairs
        for block in SequenceMatcher(None, a.texts, b.texts, autojunk=False).get_matching_blocks()
    )
    return 2 * shared / sum(len(a.texts) + len(b.texts) for a, b in pairs)


def test_the_way_of_a_gpu_reads_as_funasr_too(case: Case) -> None:
    engine = Paraformer(case.model_dir, EngineSettings(), by_item=False)

    found = [r for i in range(0, 105, 15) for r in engine.read(case.audios[i : i + 15], NO_HINTS)]

    mismatches, _ = differences(case.engine, case.audios, found, case.expected)
    assert mismatches == []


@pytest.mark.parametrize("dtype", LEAST_AGREEMENT)
@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 7, 35])
def test_fewer_bits_read_nearly_the_same_in_any_batch(case: Case, dtype: str, batch: int) -> None:
    engine = Paraformer(
        case.model_dir, EngineSettings(dtype=dtype), dtypes=ALL, by_item=dtype == "int8"
    )

    found = [
        reading
        for i in range(0, 105, batch)
        for reading in engine.read(case.audios[i : i + batch], NO_HINTS)
    ]

    assert agreement(found, case.expected) >= LEAST_AGREEMENT[dtype]


def test_in_int8_words_and_times_are_those_of_the_segment_alone(case: Case) -> None:
    engine = Paraformer(case.model_dir, EngineSettings(dtype="int8"))
    audios = case.audios[:24]

    found = engine.read(audios, NO_HINTS)

    assert found == [engine.read([audio], NO_HINTS)[0] for audio in audios]


@pytest.mark.parametrize("dtype", ["int8", "fp16", "bf16"])
def test_hotwords_work_in_every_format(seaco_case: Case, dtype: str) -> None:
    engine = Paraformer(
        seaco_case.model_dir, EngineSettings(dtype=dtype), dtypes=ALL, by_item=dtype == "int8"
    )

    found = engine.read(seaco_case.audios[:10], HOTWORDS)

    plain = engine.read(seaco_case.audios[:10], NO_HINTS)
    assert [len(r.texts) > 0 for r in found] == [len(r.texts) > 0 for r in plain]
    assert found != plain


def test_a_row_in_int8_does_not_depend_on_the_rows_beside_it() -> None:
    linear = Int8Linear(nn.Linear(64, 48))
    rows = torch.randn(40, 64) * torch.logspace(-2, 2, 40)[:, None]

    together = linear(rows)

    assert torch.equal(together, torch.cat([linear(row[None]) for row in rows]))


def test_the_lstm_in_int8_reads_an_item_as_if_it_were_alone() -> None:
    lstm = int8_lstm(nn.LSTM(32, 32, batch_first=True, bidirectional=True))
    lengths = [5, 9, 7]
    padded = torch.randn(3, 9, 32) * torch.tensor([0.01, 1, 100])[:, None, None]

    with torch.inference_mode():
        together = run_lstm(lstm, padded, lengths)
        alone = [lstm(padded[i : i + 1, :n])[0][0] for i, n in enumerate(lengths)]

    assert all(torch.equal(together[i, :n], alone[i]) for i, n in enumerate(lengths))


@pytest.mark.parametrize("limit", [127, 63])
def test_an_int8_layer_is_close_to_its_original(limit: int) -> None:
    linear = nn.Linear(256, 96)
    x = torch.randn(3, 20, 256)

    with torch.inference_mode():
        found, exact = Int8Linear(linear, limit)(x), linear(x)

    assert found.shape == exact.shape
    assert (found - exact).norm() / exact.norm() < 0.02


def test_a_row_of_zeros_gives_the_bias() -> None:
    linear = nn.Linear(16, 8)

    torch.testing.assert_close(Int8Linear(linear)(torch.zeros(1, 16))[0], linear.bias.detach())


def test_this_processor_sums_weights_of_the_chosen_size_exactly() -> None:
    limit = weight_limit()
    a = torch.full((4, 2048), 127, dtype=torch.int8)
    b = torch.full((2048, 4), limit, dtype=torch.int8)

    assert torch._int_mm(a, b).eq(2048 * 127 * limit).all()


def test_only_int8_needs_what_torch_will_drop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.ao.nn.quantized.dynamic", None)

    again = runpy.run_path(str(predictor.__file__))

    padded = torch.ones(2, 3, 4)
    assert again["run_lstm"](nn.LSTM(4, 5, batch_first=True), padded, [3, 2]).shape == (2, 3, 5)
