"""The bucket that a CUDA graph needs: what fills it changes nothing of what is in it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks import synthetic_audio
from benchmarks.gpu_graphs import Bucket, encoder_figures
from benchmarks.model_files import asr_tokens
from benchmarks.random_models import Size, write_paraformer
from deployments.engines.paraformer import Paraformer
from deployments.engines.protocols import EngineSettings

LENGTHS_MS = ([3_000, 900, 2_100], [2_500, 2_400, 600])  # the second fits into the first's bucket


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Paraformer:
    """One that mixes rows as a GPU does."""
    model_dir: Path = tmp_path_factory.mktemp("asr")
    write_paraformer(model_dir, size=Size.TINY, tokens=asr_tokens(200))
    return Paraformer(model_dir, EngineSettings(), by_item=False)


@torch.inference_mode()
def test_batches_that_take_turns_in_a_bucket_are_encoded_as_alone(engine: Paraformer) -> None:
    batches = [
        [synthetic_audio.voice(ms, seed=i) for i, ms in enumerate(lengths_ms)]
        for lengths_ms in LENGTHS_MS
    ]
    bucket = Bucket(engine.features(batches[0])[1])
    addresses = [bucket.__dict__[name].data_ptr() for name in ("places", "_flat_places", "mask")]

    for batch in batches:
        features, frames = engine.features(batch)
        bucket.fill(frames.lengths)
        found = engine.hidden(bucket.padded(features), bucket)[: len(features)]
        torch.testing.assert_close(found, engine.hidden(features, frames), atol=1e-4, rtol=1e-4)

    assert sum(frames.lengths) < bucket.n_rows
    assert addresses == [bucket.__dict__[n].data_ptr() for n in ("places", "_flat_places", "mask")]


def test_on_a_cpu_the_experiment_says_what_the_bucket_costs(engine: Paraformer) -> None:
    batch = [synthetic_audio.voice(ms, seed=ms) for ms in LENGTHS_MS[0]]

    figures = encoder_figures(engine, batch, "cpu")

    assert float(figures["bucket_largest_difference"]) < 1e-4
    assert float(figures["bucket_rows"]) > float(figures["rows"]) > 0
    assert float(figures["bucket_ms"]) > 0
    assert not any("graph" in name or "compiled" in name for name in figures)


def test_what_a_way_fails_with_is_a_figure(
    engine: Paraformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(self: Bucket, *_: object, **__: object) -> None:
        raise RuntimeError("not permitted while a stream is captured")

    batch = [synthetic_audio.voice(ms, seed=ms) for ms in LENGTHS_MS[0]]
    monkeypatch.setattr(Bucket, "pad", failing)

    figures = encoder_figures(engine, batch, "cpu")

    assert figures["bucket_error"] == "RuntimeError: not permitted while a stream is captured"
    assert float(figures["eager_ms"]) > 0
    assert "bucket_ms" not in figures
