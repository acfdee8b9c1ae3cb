"""The GPU benchmark: all of it on a CPU with tiny networks, and the parts of its figures."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from numpy.typing import NDArray

from benchmarks.gpu import engines as gpu
from benchmarks.gpu import funasr as gpu_funasr
from benchmarks.gpu.funasr import best_batch
from benchmarks.gpu.measures import busy_s, tf32
from benchmarks.gpu.pipeline import Setup, batches_of, chunk_of, transcribe
from benchmarks.gpu.replicas import Done, rtfx_of, run_replicas
from deployments.core.chunks import Chunk, ChunkRunner
from deployments.core.errors import OutOfMemory
from deployments.core.types import SAMPLES_PER_MS, Audio, ChunkResult, Hints, Recognition, Segment

ROOT = Path(__file__).parent.parent.parent.parent
SPEEDS = [
    f"{prefix}{stage}_rtfx"
    for stage in ("vad", "asr", "punctuation", "end_to_end")
    for prefix in ("", "single_", "fp32_")
]
SMALL = {"device": "cpu", "dtype": "fp32", "size": "tiny", "files": "3", "minutes": "0.4"}
SMALL |= {"single-minutes": "0.5", "batch-audio-s": "40", "repeats": "1", "replicas": "1,2"}


def small_run(*more: str) -> dict[str, float | str]:
    """The figures of the command, run where there is no Ray."""
    options = [word for name, value in SMALL.items() for word in (f"--{name}", value)]
    code = (
        "import runpy, sys\n"
        "sys.modules['ray'] = None\n"  # an import of it fails, in spawned processes' parents too
        "runpy.run_module('benchmarks', run_name='__main__', alter_sys=True)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "gpu", "--json", *options, *more],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    assert '_rtfx": ' in done.stderr  # each section's, as it ended
    figures: dict[str, float | str] = json.loads(done.stdout)
    return figures


@pytest.mark.slow
def test_every_section_runs_on_a_cpu_where_there_is_no_ray() -> None:
    figures = small_run("--funasr", "--funasr-files", "1", "--funasr-batches-s", "20,40")

    assert min(float(figures[name]) for name in SPEEDS) > 0
    assert float(figures["end_to_end_rtfx"]) < float(figures["asr_rtfx"])
    assert figures["failed_segments"] == 0
    assert float(figures["n_words"]) > 0
    assert figures["agreement_fp32_batch_32"] == 1
    assert float(figures["agreement_bf16_batch_8"]) > 0.8
    assert float(figures["oom_halved"]) >= 1
    assert (figures["oom_lost"], figures["oom_same_text"]) == (0, 1)
    assert figures["best_replicas"] in (1, 2)
    assert figures["replicas_2_failed_segments"] == 0
    assert float(figures["graphs_40x30s_bucket_ms"]) > 0
    assert "graphs_error" not in figures
    assert figures["funasr_tf32_best_batch_s"] in (20, 40)
    assert float(figures["funasr_single_fp32_rtfx"]) > 0


def test_automodels_best_batch_is_found_by_medians_after_a_warm_up() -> None:
    takes_s = {  # the first time of each is not counted
        60: iter([0.0, 5.0, 5.0, 1.0]),
        300: iter([99.0, 4.0, 90.0, 4.0]),
    }
    now_s = 0.0

    def read(batch_s: int) -> None:
        nonlocal now_s
        now_s += next(takes_s[batch_s])

    found = best_batch(read, [60, 300], repeats=3, clock=lambda: now_s)

    assert found == (300, 4.0)


@pytest.mark.slow
def test_a_section_runs_alone() -> None:
    figures = small_run("--sections", "single")

    assert "single_end_to_end_rtfx" in figures
    assert "asr_tflops" not in figures
    assert "replicas_1_rtfx" not in figures


def test_an_unknown_section_is_refused_before_anything_is_made() -> None:
    with pytest.raises(typer.BadParameter, match=r"'pipelines'.*many, single"):
        gpu.run(sections="many,pipelines")


def test_the_recordings_are_speech_for_the_most_part_and_each_its_own() -> None:
    one, two = gpu.recordings(2, 0.5)

    assert len(one) == len(two) == 30_000 * SAMPLES_PER_MS
    assert not np.array_equal(one, two)


def test_segments_of_all_recordings_share_batches_and_find_their_way_back() -> None:
    lengths_ms = [[900, 3000, 1000], [], [2900, 950]]
    batches: list[int] = []

    def read(batch: list[Audio], hints: Hints) -> list[Recognition]:
        batches.append(len(batch))
        return [Recognition(f"{audio[0]}:{len(audio) // SAMPLES_PER_MS}") for audio in batch]

    runner = ChunkRunner(read, engine="", replica="")  # type: ignore[arg-type]
    runner.budget_ms = 8000
    audios = [np.full(20_000 * SAMPLES_PER_MS, k, np.int16) for k in range(3)]
    segments = [
        [Segment(i, 4000 * i, 4000 * i + n_ms) for i, n_ms in enumerate(own)] for own in lengths_ms
    ]

    found, padded_ms = transcribe(runner, audios, segments)

    texts = [[r.text for r in own] for own in found]
    assert texts == [[f"{k}:{n}" for n in own] for k, own in enumerate(lengths_ms)]
    assert batches == [2, 3]
    assert (padded_ms, runner.n_batches) == (6000 + 3000, 2)


def read_two(batch: Sequence[Audio], hints: Hints) -> list[Recognition]:
    """Reads a batch of two segments at most."""
    if len(batch) > 2:
        raise OutOfMemory("room for two segments")
    return [Recognition("")] * len(batch)


def test_a_call_holds_one_budget_and_batches_are_counted_as_they_are_read() -> None:
    calls: list[int] = []

    class Noting(ChunkRunner):
        def run(self, chunks: Sequence[Chunk]) -> list[ChunkResult]:
            calls.append(len(chunks))
            return super().run(chunks)

    runner = Noting(read_two, engine="", replica="")
    runner.allow(3000)
    segments = [[Segment(i, 1000 * i, 1000 * i + 1000) for i in range(5)]]

    transcribe(runner, [np.ones(5000 * SAMPLES_PER_MS, np.int16)], segments)

    assert calls == [3, 2]
    assert runner.n_batches == 3 + 2  # the first call tries all three, then one and two


def test_automodels_best_batch_is_looked_for_on_the_first_set_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[tuple[int, int]] = []

    class Noting:
        def generate(self, audio: NDArray[np.float32], *, batch_size_s: int) -> None:
            assert audio.dtype == np.float32  # it is not timed how samples are converted
            asked.append((len(audio), batch_size_s))

    monkeypatch.setattr(gpu_funasr, "load", lambda models, device: Noting())
    short, long = np.zeros(10, np.int16), np.zeros(90, np.int16)

    figures = gpu_funasr.against_funasr(
        Path(), {"": [short], "long_": [long]}, device="cpu", batches_s=[60, 300], repeats=1
    )

    tried = [batch_s for n_samples, batch_s in asked if n_samples == 90]
    assert tried == [figures["fp32_best_batch_s"]] * 2 + [figures["tf32_best_batch_s"]] * 2
    assert {batch_s for n_samples, batch_s in asked if n_samples == 10} == {60, 300}


@pytest.mark.parametrize("slack_ms", [0, 12_000])
def test_a_batch_is_read_as_it_was_packed(slack_ms: int) -> None:
    pieces = [np.zeros(n * SAMPLES_PER_MS, np.int16) for n in (700, 5000, 4800, 3000, 2900, 400)]
    read: list[list[int]] = []

    def note(batch: Sequence[Audio], hints: Hints) -> list[Recognition]:
        read.append([len(audio) // SAMPLES_PER_MS for audio in batch])
        return [Recognition("")] * len(batch)

    runner = ChunkRunner(note, engine="", replica="")
    runner.allow(12_000, slack_ms=slack_ms)

    runner.run([chunk_of([piece]) for piece in pieces])

    batches = batches_of(pieces, runner)
    assert read == [[len(pieces[i]) // SAMPLES_PER_MS for i in batch] for batch in batches]


@pytest.mark.parametrize(
    ("spans_us", "expected_s"),
    [
        ([], 0.0),
        ([(0, 5e5), (1e6, 2e6)], 1.5),
        ([(1e6, 2e6), (0, 1.5e6)], 2.0),  # out of order, and overlapping
        ([(0, 3e6), (1e6, 2e6), (2.5e6, 4e6)], 4.0),  # one inside another
    ],
)
def test_the_device_is_busy_once_at_a_time(
    spans_us: list[tuple[float, float]], expected_s: float
) -> None:
    assert busy_s(spans_us) == pytest.approx(expected_s)


def test_processes_are_counted_from_the_first_start_to_the_last_end() -> None:
    assert rtfx_of([Done(10, 12, 300, 0), Done(11, 14, 100, 0)]) == 100


def test_tf32_is_left_as_it_was() -> None:
    before = torch.backends.cuda.matmul.allow_tf32

    with tf32(not before):
        inside = torch.backends.cuda.matmul.allow_tf32

    assert (inside, torch.backends.cuda.matmul.allow_tf32) == (not before, before)


@pytest.mark.slow
def test_a_process_that_fails_is_told_at_once(tmp_path: Path) -> None:
    setup = Setup(tmp_path / "nowhere", "cpu", "fp32", 60.0, 8)

    with pytest.raises(RuntimeError, match="A process failed: ModelUnavailable"):
        run_replicas(setup, [], 2)
