"""Buckets of fixed shapes, on a CPU; the CUDA graphs themselves need a GPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch

from benchmarks.gpu import graphs as gpu_graphs
from benchmarks.gpu.checks import Bench
from benchmarks.gpu.graphs import BUCKETED, BUCKETS, Bucket, Held, Run, batches, compare
from benchmarks.gpu.pipeline import Setup
from benchmarks.results import Figures
from deployments.engines.checkpoint import load_checkpoint
from deployments.engines.packed import Rows
from deployments.engines.paraformer import sanm
from deployments.engines.paraformer.engine import CLASSES
from tests.engines.conftest import Case, seaco_case
from tests.engines.fake_card import fake_card

__all__ = ["seaco_case"]
SMALL = Bucket(4, 3)
CPU, FP32 = torch.device("cpu"), torch.float32


@pytest.fixture
def encoder(seaco_case: Case) -> Any:
    return load_checkpoint(seaco_case.model_dir, "asr", classes=CLASSES).model.encoder


def shortest(bucket: Bucket) -> int:
    return bucket.longest - bucket.longest // gpu_graphs.A_PART


def drawn(bucket: Bucket) -> list[int]:
    rng = np.random.default_rng(1)
    return cast(
        list[int], rng.integers(shortest(bucket), bucket.longest + 1, bucket.n_items).tolist()
    )


@pytest.mark.parametrize("bucket", BUCKETS, ids=str)
@pytest.mark.parametrize(
    "lengths_for",
    [
        lambda bucket: [shortest(bucket)] * bucket.n_items,
        lambda bucket: [bucket.longest] * bucket.n_items,
        lambda bucket: [shortest(bucket)],
        drawn,
    ],
    ids=["shortest", "longest", "one", "mixed"],
)
def test_a_filled_batch_has_its_buckets_shape(
    bucket: Bucket, lengths_for: Callable[[Bucket], list[int]]
) -> None:
    lengths = lengths_for(bucket)

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


def rows_of(encoder: Any, lengths: Sequence[int]) -> torch.Tensor:
    """Random input rows for items of these lengths, with the scale of normalised features."""
    rng = np.random.default_rng(sum(lengths))
    noise = rng.standard_normal((sum(lengths), encoder.encoders0[0].in_size), np.float32)
    return torch.from_numpy(noise) * encoder.output_size() ** 0.5


@torch.inference_mode()
def eager(encoder: Any, placed: torch.Tensor, lengths: Sequence[int]) -> torch.Tensor:
    return sanm.encode(encoder, placed, Rows(lengths, placed.device, by_item=False), FP32)


@torch.inference_mode()
def in_bucket(held: Held, placed: torch.Tensor, lengths: Sequence[int]) -> torch.Tensor:
    held.hold(placed, lengths)
    return held.run()[: len(placed)].clone()


@pytest.mark.parametrize("lengths", [[50, 47, 49, 45], [45], [48, 46, 50]], ids=str)
@pytest.mark.parametrize("before", [[45], [50] * 4, [46, 49, 45]], ids=str)
def test_a_batch_is_read_alike_with_filler_whatever_the_bucket_held_before(
    encoder: Any, before: list[int], lengths: list[int]
) -> None:
    held = Held(encoder, SMALL, FP32, "cpu")
    in_bucket(held, rows_of(encoder, before), before)
    placed = rows_of(encoder, lengths)

    found = in_bucket(held, placed, lengths)

    torch.testing.assert_close(found, eager(encoder, placed, lengths), rtol=0, atol=1e-5)


def section(models: Path, device: str = "cpu") -> Figures:
    """The figures of the section, which uses nothing but the setup."""
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
        encoder = load_checkpoint(seaco_case.model_dir, "asr", classes=CLASSES).model.encoder
        encoder = encoder.to("cuda")
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


def test_a_result_that_is_not_a_number_is_an_error(encoder: Any) -> None:
    figures = compare(encoder, FP32, "cpu", [SMALL], {"nan": lambda run: lambda: run() * np.nan})

    assert "graphs_4x3s_nan: ArithmeticError" in str(figures["graphs_error"])


def test_a_difference_is_seen(encoder: Any) -> None:
    figures = compare(encoder, FP32, "cpu", [SMALL], {"wrong": lambda run: lambda: run() + 1})

    assert float(figures["graphs_4x3s_wrong_diff"]) == pytest.approx(1, abs=1e-4)


def test_a_layer_is_traced_without_a_break_and_reads_the_batch_that_is_held(
    encoder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tests only the tracing of `torch.compile`: its code for a CPU says nothing about a GPU's."""
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
