"""Several processes on one GPU, each with an equal fraction of it and a part of the recordings."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from queue import Empty
from typing import Any

import numpy as np
import torch.multiprocessing

from benchmarks.gpu.pipeline import Pipeline, Setup

START_S, RUN_S = 180.0, 180.0  # timeouts for processes to load, and to run


@dataclass(frozen=True, slots=True)
class Done:
    """The work of one process; its times are of a clock that all processes share."""

    began_s: float
    ended_s: float
    audio_s: float
    n_failed: int


def rtfx_of(done: Sequence[Done]) -> float:
    """Audio seconds a second of all processes, from the first start to the last end."""
    wall_s = max(d.ended_s for d in done) - min(d.began_s for d in done)
    return sum(d.audio_s for d in done) / wall_s


def run_replicas(setup: Setup, files: Sequence[Path], n_replicas: int) -> list[Done]:
    """Runs the files (int16 samples in .npy) through `n_replicas` processes that start together.

    Raises RuntimeError where a process fails or takes too long.
    """
    context: Any = torch.multiprocessing.get_context("spawn")
    barrier, answers = context.Barrier(n_replicas), context.Queue()
    part = replace(
        setup,
        memory_fraction=1 / n_replicas if setup.device == "cuda" else None,
        num_threads=max(1, (os.cpu_count() or 1) // n_replicas),
    )
    processes = [
        context.Process(target=_work, args=(part, files[i::n_replicas], barrier, answers))
        for i in range(n_replicas)
    ]
    try:
        for process in processes:
            process.start()
        return [_done(answers.get(timeout=START_S + RUN_S)) for _ in processes]
    except Empty:
        states = [process.exitcode for process in processes]
        raise RuntimeError(f"{n_replicas} processes did not all answer: {states}") from None
    finally:
        barrier.abort()  # ends processes that still wait at the barrier
        for process in processes:
            process.join(timeout=20)
            if process.is_alive():
                process.kill()


def _done(answer: Done | str) -> Done:
    if isinstance(answer, str):
        raise RuntimeError(f"A process failed: {answer}")
    return answer


def _work(setup: Setup, files: Sequence[Path], barrier: Any, answers: Any) -> None:
    try:
        answers.put(_measured(setup, files, barrier))
    except BaseException as error:  # sent at once: else the parent would wait for its timeout
        answers.put(f"{type(error).__name__}: {error}")
        raise


def _measured(setup: Setup, files: Sequence[Path], barrier: Any) -> Done:
    pipeline = Pipeline(setup)
    audios = [np.load(file) for file in files]
    pipeline.run(audios)  # a warm-up
    barrier.wait(START_S)
    began_s = time.monotonic()
    run = pipeline.run(audios)
    return Done(began_s, time.monotonic(), run.audio_s, run.n_failed)
