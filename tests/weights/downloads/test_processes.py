"""Several processes that want one model, and one that is killed."""

from __future__ import annotations

import multiprocessing
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

from deployments.weights.settings import Endpoints
from deployments.weights.sources import Progress
from deployments.weights.store import ensure, is_cached
from tests.weights.fake_hub import FakeHub
from tests.weights.fetching import fetch
from tests.weights.samples import (
    CHECKPOINT_BYTES,
    CONTENTS,
    MODELSCOPE,
    catalog_of,
    quick_limits,
    tiny_model,
)

MODEL = tiny_model(MODELSCOPE)


def _child(cache: Path, endpoints: Endpoints, started: Any, told: Any, waiting: Any) -> None:
    """Runs `ensure` in another process, and signals that it downloads or that it waits."""

    def on_progress(progress: Progress) -> None:
        if progress.source == "another process":
            waiting.set()
        if progress.file == "model.pt":  # the last file, because it is the largest
            started.set()

    weights = ensure(
        MODEL.name,
        cache_dir=cache,
        catalog=catalog_of(MODEL),
        endpoints=endpoints,
        limits=replace(quick_limits(), stall_s=20.0),
        on_progress=on_progress,
    )
    told.put(weights)


def test_two_processes_that_ask_at_once_download_once(hub: FakeHub, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    told = context.Queue()
    started, waiting = context.Event(), context.Event()
    arguments = (tmp_path, hub.endpoints, started, told, waiting)
    first, second = (context.Process(target=_child, args=arguments) for _ in range(2))
    hub.stall_after = 2_000_000

    first.start()
    second.start()
    assert started.wait(30)
    assert waiting.wait(30)  # one download is stalled, and the other process waits
    hub.stall_after = None
    hub.released.set()
    answers = [told.get(timeout=30), told.get(timeout=30)]
    first.join(30)
    second.join(30)

    assert answers[0] == answers[1]
    assert sum(seen.n_bytes for seen in hub.content_requests("model.pt")) == CHECKPOINT_BYTES
    assert len(hub.content_requests("config.yaml")) == 1


def test_a_process_killed_midway_leaves_nothing_that_is_taken_for_good(
    hub: FakeHub, tmp_path: Path
) -> None:
    context = multiprocessing.get_context("spawn")
    started, waiting, told = context.Event(), context.Event(), context.Queue()
    arguments = (tmp_path, hub.endpoints, started, told, waiting)
    child = context.Process(target=_child, args=arguments)
    hub.stall_after = 2_000_000
    child.start()
    assert started.wait(30)

    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    child.join(30)
    killed_is_cached = is_cached(MODEL.name, tmp_path, catalog=catalog_of(MODEL))
    hub.stall_after = None
    weights = fetch(MODEL, tmp_path, hub)

    assert not killed_is_cached
    assert (weights.path / "model.pt").read_bytes() == CONTENTS["model.pt"]
    last = hub.content_requests("model.pt")[-1]
    assert last.range is not None  # the killed run's bytes were kept
    assert last.n_bytes < CHECKPOINT_BYTES
