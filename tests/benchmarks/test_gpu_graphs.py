"""Buckets of fixed shapes: on a CPU all but the graphs, which need a GPU."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch

from benchmarks import gpu_graphs
from benchmarks.gpu_checks import Bench
from benchmarks.gpu_graphs import BUCKETED, BUCKETS, Bucket, Held, Run, batches, compare
from benchmarks.gpu_pipeline import Setup
from benchmarks.results import Figures
from deployments.engines import sanm
from deployments.engines.checkpoint import load_checkpoint
from deployments.engines.packed import Rows
from deployments.engines.paraformer import CLASSES, Paraformer
from deployments.engines.protocols import EngineSettings
from tests.engines.conftest import Case, seaco_case
from tests.engines.fake_card import fake_card
from tests.engines.test_nothing_heard import padding

__all__ = ["seaco_case"]
SMALL = Bucket(4, 3)
CPU, FP32 = torch.device("cpu"), torch.float32


@pytest.fixture
def encoder(seaco_case: Case) -> Any:
    return load_checkpoint(seaco_case.model_dir, "asr", classes=CLASSES).model.encoder


@pytest.mark.parametrize("bucket", BUCKETS, ids=str)
def test_a_filled_batch_has_its_buckets_shape(bucket: Bucket) -> None:
    rng = np.random.default_rng(1)
    shortest = bucket.longest - bucket.longest // gpu_graphs.A_PART
    for lengths in (
        [shortest] * bucket.n_items,
        [bucket.longest] * bucket.n_items,
        [shortest],
        rng.integers(shortest, bucket.longest + 1, bucket.n_items).tolist(),
    ):
        filled = bucket.filled(lengths)

        assert filled[: len(lengths)] == lengths
        assert sum(filled) == bucket.n_rows
        assert len(filled) == bucket.n_items + bucket.n_fillers
        assert min(filled) >= 1
        assert max(filled) <= bucket.longest


@pytest.mark.parametrize("lengths", [[51], [50] * 6, [25] * 4], ids=["long", "many", "short"])
def test_a_batch_of_another_bucket_is_refused(lengths: list[int]) -> None:
    with pytest.raises(ValueError, match="are not of"):
        SMALL.filled(lengths)


def test_a_batch_is_read_alike_with_filler_whatever_the_bucket_held_before(
    seaco_case: Case,
) -> None:
    engine = padding(seaco_case.model_dir)
    audios = sorted(seaco_case.audios, key=len)
    held = Held(engine._model.encoder, SMALL, FP32, "cpu")
    assert len(audios[-1]) <= SMALL.longest_s * 16_000
    with torch.inference_mode():
        for some in (audios[-4:], audios[-8:-4], audios[-9:-8], audios[-7:-4]):
            features, frames = engine.features(some)
            placed = engine._placed(features, frames)
            expected = sanm.encode(engine._model.encoder, placed, frames, FP32)

            held.hold(placed, frames.lengths)

            torch.testing.assert_close(held.run()[: len(placed)], expected, rtol=0, atol=1e-5)


def section(models: Path, device: str = "cpu") -> Figures:
    """The benchmark's, which looks at nothing else."""
    bench = cast(Bench, SimpleNamespace(setup=Setup(models, device, "fp32", 60.0, 8)))
    return gpu_graphs.graphs(bench)


def test_a_cpu_times_the_bucket_and_names_what_it_cannot_try(
    seaco_case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_graphs, "BUCKETS", [SMALL])
    (tmp_path / "asr").symlink_to(seaco_case.model_dir)

    figures = section(tmp_path)

    not_available = figures.pop("graphs_not_available")
    assert not_available == "compiled, captured, compiled_captured"
    assert set(figures) == {"graphs_4x3s_eager_ms"} | {
        f"graphs_4x3s_bucket_{of}" for of in ("ms", "diff", "made_s")
    }
    assert float(figures["graphs_4x3s_bucket_ms"]) > 0
    assert float(figures["graphs_4x3s_bucket_diff"]) < 1e-5


def test_on_a_card_nothing_waits_for_it_as_no_graph_could(seaco_case: Case) -> None:
    with fake_card() as card:
        encoder = Paraformer(seaco_case.model_dir, EngineSettings(device="cuda"))._model.encoder
        first, (placed, lengths) = batches(encoder, SMALL, "cuda")
        held = Held(encoder, SMALL, FP32, "cuda")
        held.hold(*first)
        card.waits.clear()

        held.run()
        held.hold(placed, lengths)
        found = held.run()[: len(placed)]

        assert card.waits == []
        rows = Rows(lengths, placed.device, by_item=False)
        expected = sanm.encode(encoder, placed, rows, FP32)
        assert (found - expected).abs().max().item() < 1e-5


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_section_that_cannot_begin_says_so(tmp_path: Path, device: str) -> None:
    figures = section(tmp_path, device)

    assert "ModelUnavailable" in str(figures["graphs_error"])


def test_a_way_that_fails_is_named_and_the_others_go_on(encoder: Any) -> None:
    def broken(run: Run) -> Run:
        raise RuntimeError("capture failed\nand more")

    figures = compare(encoder, FP32, "cpu", [SMALL], {"broken": broken, **BUCKETED})

    assert figures["graphs_error"] == "graphs_4x3s_broken: RuntimeError: capture failed"
    assert "graphs_4x3s_bucket_ms" in figures
    assert "graphs_4x3s_broken_ms" not in figures


def test_a_result_that_is_no_number_is_an_error(encoder: Any) -> None:
    figures = compare(encoder, FP32, "cpu", [SMALL], {"nan": lambda run: lambda: run() * np.nan})

    assert "graphs_4x3s_nan: ArithmeticError" in str(figures["graphs_error"])


def test_a_difference_is_seen(encoder: Any) -> None:
    figures = compare(encoder, FP32, "cpu", [SMALL], {"wrong": lambda run: lambda: run() + 1})

    assert float(figures["graphs_4x3s_wrong_diff"]) == pytest.approx(1, abs=1e-4)


def test_a_layer_is_traced_without_a_break_and_reads_the_batch_that_is_held(
    encoder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tracing of `torch.compile` alone: its code for a CPU says nothing about a GPU's."""
    compile_ = torch.compile
    monkeypatch.setattr(
        torch, "compile", lambda layer, **options: compile_(layer, backend="eager", **options)
    )
    held = Held(encoder, SMALL, FP32, "cpu")
    first, (placed, lengths) = batches(encoder, SMALL, "cpu")
    with torch.inference_mode():
        held.hold(*first)
        run = gpu_graphs.compiled(held.run)
        run()
        held.hold(placed, lengths)

        found = run()[: len(placed)]

        rows = Rows(lengths, CPU, by_item=False)
        expected = sanm.encode(encoder, placed, rows, FP32)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
