"""`engine`: the Paraformer engine against FunASR's `AutoModel.generate`, on one core.

CPU time of one thread, in turns, the median of the repeats. The segments have the lengths of a
log-normal law as in speech (mean 4 s, half of what a VAD gives on a meeting, to keep a run
short). Agreement between number formats on random weights shows that the arithmetic is right, and
says nothing of accuracy; `--model DIR` takes real weights, and the words of the sample meeting.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from difflib import SequenceMatcher
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Annotated, TypeAlias

import torch
import typer

from benchmarks.automodel import AutoModelAlone, as_funasr
from benchmarks.random_models import Size, write_paraformer
from benchmarks.recordings import utterances
from benchmarks.results import Figures
from benchmarks.served import cpu_pool, say
from benchmarks.synthetic_audio import voice
from deployments.core.batching import pack, padded_ms
from deployments.core.types import SAMPLES_PER_MS, Audio, Hints
from deployments.engines.export_onnx import export
from deployments.engines.int8 import weight_limit
from deployments.engines.paraformer import Paraformer
from deployments.engines.paraformer_onnx import ParaformerOnnx
from deployments.engines.protocols import EngineSettings
from deployments.engines.readings import Reading

SEED = 7
SHORTEST_MS, LONGEST_MS = 500, 15_000
MU, SIGMA = 1.2, 0.7  # of the logarithm of the seconds
HALF = {"cpu": ("fp16", "bf16")}  # for the agreement alone: a CPU is slower in them
NO_HINTS = Hints()
BATCH_SIZES = (1, 4, 12)
N_SHUFFLES = 2  # orders in which a format reads in batches of mixed lengths
ONNX = {"onnx_fp32": "fp32", "onnx_int8": "int8"}

Engine: TypeAlias = Paraformer | ParaformerOnnx


def run(
    segments: Annotated[int, typer.Option(help="Segments of a round.")] = 60,
    repeats: Annotated[int, typer.Option(help="Rounds, of which the median counts.")] = 5,
    size: Annotated[Size, typer.Option(help="Geometry of the network.")] = Size.LARGE,
    agreement_segments: Annotated[
        int, typer.Option(help="Segments on which number formats are compared; 0: none.")
    ] = 12,
    onnx: Annotated[
        bool, typer.Option(help="Export for ONNX Runtime, and compare it too.")
    ] = False,
    model: Annotated[
        Path | None, typer.Option(help="A Paraformer with real weights, read on real words.")
    ] = None,
) -> Figures:
    """fp32 and int8 against AutoModel; at tiny geometry, where only overhead is left, too."""
    before = torch.get_num_threads()
    audios = utterances(segments) if model else make_segments(segments)
    try:
        with TemporaryDirectory() as root:
            model_dir = model or write_paraformer(Path(root) / "asr", size=size)
            tiny_dir = write_paraformer(Path(root) / "tiny", size=Size.TINY)
            onnx_dirs = export_all(model_dir, Path(root)) if onnx else {}
            figures = against_automodel(model_dir, audios, repeats=repeats, onnx_dirs=onnx_dirs)
            if agreement_segments:
                some = audios[::-1][:agreement_segments]
                figures |= agreements(model_dir, some, onnx_dirs=onnx_dirs)
            say("Tiny geometry:")
            tiny = against_automodel(tiny_dir, audios, repeats=repeats)
    finally:
        torch.set_num_threads(before)
    seconds = sum(map(len, audios)) / SAMPLES_PER_MS / 1000
    return {
        "weights": model.name if model else f"random, {size}, SeACo",
        "segments": segments,
        "audio_s": seconds,
        "longest_s": max(map(len, audios)) / SAMPLES_PER_MS / 1000,
        "repeats": repeats,
        **figures,
        "overhead_ratio": tiny["fp32_speedup"],
        "identical_tiny": tiny["identical"],
    }


def make_segments(count: int) -> list[Audio]:
    """The same voices every time, shortest first."""
    rng = random.Random(SEED)
    lengths_ms = sorted(
        round(min(LONGEST_MS, max(SHORTEST_MS, 1000 * rng.lognormvariate(MU, SIGMA))))
        for _ in range(count)
    )
    return [voice(n_ms, seed=SEED + i) for i, n_ms in enumerate(lengths_ms)]


def export_all(model_dir: Path, root: Path) -> dict[str, Path]:
    """The model's directories for ONNX Runtime, by the names of their figures."""
    for name, dtype in ONNX.items():
        say(f"Exporting the graphs in {dtype} ...")
        export(model_dir, root / name, int8=dtype == "int8", weight_bits=weight_bits())
    return {name: root / name for name in ONNX}


def weight_bits() -> int:
    """The most bits of a weight whose sums do not saturate on this processor."""
    return weight_limit().bit_length() + 1


def against_automodel(
    model_dir: Path,
    audios: Sequence[Audio],
    *,
    repeats: int,
    onnx_dirs: Mapping[str, Path] = MappingProxyType({}),
) -> Figures:
    """CPU time of both sides on the same segments, and whether they read the same."""
    automodel = AutoModelAlone(model_dir)
    engines: dict[str, Engine] = {
        dtype: Paraformer(model_dir, EngineSettings(dtype=dtype)) for dtype in ("fp32", "int8")
    }
    engines |= {name: ParaformerOnnx(path, EngineSettings()) for name, path in onnx_dirs.items()}
    lengths_ms = [len(audio) // SAMPLES_PER_MS for audio in audios]
    batches = pack(lengths_ms, budget_ms=round(cpu_pool(1).batch_audio_s * 1000))
    n_padded_ms = sum(padded_ms([lengths_ms[i] for i in batch]) for batch in batches)

    say("Warm-up, and whether the readings are the same ...")
    expected = [automodel.read(audio) for audio in audios]
    found = {name: read_all(engine, audios, batches) for name, engine in engines.items()}

    converted = [as_funasr(audio) for audio in audios]
    sides: dict[str, Callable[[], object]] = {
        "automodel": lambda: [automodel.generate(audio) for audio in converted],
        **{
            dtype: lambda engine=engine: [  # type: ignore[misc]
                engine.transcribe([audios[i] for i in batch], NO_HINTS) for batch in batches
            ]
            for dtype, engine in engines.items()
        },
    }
    took: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(repeats):
        for side, work in sides.items():
            took[side].append(cpu_seconds(work))
        say("  " + ", ".join(f"{side} {times[-1]:.2f} s" for side, times in took.items()))
    theirs = took["automodel"]
    speedup = {
        dtype: median(a / b for a, b in zip(theirs, took[dtype], strict=True)) for dtype in engines
    }
    audio_s = sum(lengths_ms) / 1000
    onnx_identical = {"onnx_identical": int(found["onnx_fp32"] == expected)} if onnx_dirs else {}
    return {
        **{f"{name}_speedup": ratio for name, ratio in speedup.items()},
        "identical": int(found["fp32"] == expected),
        **onnx_identical,
        "n_batches": len(batches),
        "padding_waste": n_padded_ms / sum(lengths_ms) - 1,
        "automodel_rtfx_per_core": audio_s / median(theirs),
        **{f"{name}_rtfx_per_core": audio_s / median(took[name]) for name in engines},
    }


def read_all(
    engine: Engine, audios: Sequence[Audio], batches: Sequence[Sequence[int]]
) -> list[Reading]:
    """The readings in the order of the audios."""
    readings = [Reading()] * len(audios)
    for batch in batches:
        found = engine.read([audios[i] for i in batch], NO_HINTS)
        for index, reading in zip(batch, found, strict=True):
            readings[index] = reading
    return readings


def agreements(
    model_dir: Path, audios: Sequence[Audio], *, onnx_dirs: Mapping[str, Path]
) -> Figures:
    """How far other formats read as fp32 does, for each size of a batch, and as they do alone."""
    exact = Paraformer(model_dir, EngineSettings())
    expected = [exact.read([audio], NO_HINTS)[0] for audio in audios]
    figures: Figures = {}
    for dtype in ("int8", "bf16", "fp16", *onnx_dirs):
        say(f"Agreement of {dtype} with fp32 ...")
        engine = _in_format(model_dir, dtype, onnx_dirs)
        found = {n: read_all(engine, audios, in_batches(len(audios), n)) for n in BATCH_SIZES}
        for n, readings in found.items():
            figures[f"agreement_{dtype}_batch_{n}"] = agreement(readings, expected)
        alone, rng = found[1], random.Random(SEED)
        drawn = [rng.sample(range(len(audios)), len(audios)) for _ in range(N_SHUFFLES)]
        mixed = [
            read_all(engine, audios, [order[at : at + size] for at in range(0, len(order), size)])
            for order, size in zip(drawn, (3, 5), strict=True)
        ]
        figures |= {
            f"{dtype}_time_agreement": time_agreement(alone, expected, within_ms=0),
            f"{dtype}_time_agreement_60ms": time_agreement(alone, expected, within_ms=60),
            f"{dtype}_batch_agreement": min(
                time_agreement(readings, alone, within_ms=0) for readings in mixed
            ),
        }
    return figures


def in_batches(count: int, n: int) -> list[list[int]]:
    """The indices in order, `n` at a time."""
    return [list(range(count))[at : at + n] for at in range(0, count, n)]


def time_agreement(
    found: Sequence[Reading], expected: Sequence[Reading], *, within_ms: int
) -> float:
    """The part of the words that stand in both readings with the same times, give or take."""
    agreed = total = 0
    for a, b in zip(found, expected, strict=True):
        matcher = SequenceMatcher(None, a.texts, b.texts, autojunk=False)
        for block in matcher.get_matching_blocks():
            ours = a.times_ms[block.a : block.a + block.size]
            theirs = b.times_ms[block.b : block.b + block.size]
            agreed += sum(
                abs(x[0] - y[0]) <= within_ms and abs(x[1] - y[1]) <= within_ms
                for x, y in zip(ours, theirs, strict=True)
            )
        total += max(len(a.texts), len(b.texts))
    return agreed / max(1, total)


def _in_format(model_dir: Path, dtype: str, onnx_dirs: Mapping[str, Path]) -> Engine:
    if dtype in onnx_dirs:
        return ParaformerOnnx(onnx_dirs[dtype], EngineSettings())
    if dtype == "int8":
        return Paraformer(model_dir, EngineSettings(dtype=dtype))
    return Paraformer(model_dir, EngineSettings(dtype=dtype), dtypes=HALF, by_item=False)


def agreement(found: Sequence[Reading], expected: Sequence[Reading]) -> float:
    """The part of the words that two readings share, in order; 1 is all."""
    shared = total = 0
    for a, b in zip(found, expected, strict=True):
        matcher = SequenceMatcher(None, a.texts, b.texts, autojunk=False)
        shared += 2 * sum(block.size for block in matcher.get_matching_blocks())
        total += len(a.texts) + len(b.texts)
    return shared / max(1, total)


def cpu_seconds(work: Callable[[], object]) -> float:
    """CPU time of this process for one call."""
    began_s = time.process_time()
    work()
    return time.process_time() - began_s
