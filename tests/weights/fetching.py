"""Fetching a model from a fake hub, and the files that a fetch leaves behind."""

from __future__ import annotations

from pathlib import Path

from deployments.weights.sources import Model, Weights
from deployments.weights.store import OnProgress, ensure
from tests.weights.fake_hub import FakeHub
from tests.weights.samples import catalog_of, quick_limits


def fetch(
    model: Model, cache: Path, hub: FakeHub, on_progress: OnProgress | None = None
) -> Weights:
    return ensure(
        model.name,
        cache_dir=cache,
        catalog=catalog_of(model),
        endpoints=hub.endpoints,
        limits=quick_limits(),
        on_progress=on_progress,
    )


def left_over(cache: Path) -> list[str]:
    """The names of all files in the cache that belong to no finished model."""
    return [path.name for path in (cache / ".partial").rglob("*") if path.is_file()]
