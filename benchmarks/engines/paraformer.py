"""`engine`: the Paraformer engine against FunASR's `AutoModel.generate`, on one core.

A figure is the median over the rounds of the CPU time of one thread; both sides take turns. The
lengths of the segments are log-normal, as in speech. Their mean is 4 s, to keep a run short: a VAD
gives segments twice as long on a meeting.

With `--rivals` the same weights also run in sherpa-onnx and funasr-onnx, one segment at a time, in
the same rounds. A figure such as `int8_over_sherpa` is their CPU time divided by the engine's;
both compute word times. `text_only_gain` is the engine's time with word times divided by its time
without. `start_s`, `peak_mib` and `steady_mib` are the int8 engine's in a process of its own (see
`start.py`).

Agreement between number formats on random weights shows that the arithmetic is right. It says
nothing of accuracy. `--model DIR` takes real weights, and then reads the sample meeting.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Annotated, TypeAlias

import torch
import typer

from benchmarks.engines.agreement import agreement, characters_agree, in_batches, time_agreement
from benchmarks.engines.automodel import AutoModelAlone, as_funasr
from benchmarks.engines.rival_export import export_for_rivals
from benchmarks.engines.rivals import Read, installed, reader
from benchmarks.engines.start import started
from benchmarks.machine import cpu_pool
from benchmarks.material.random_models import Size, write_paraformer
from benchmarks.material.recordings import utterances
from benchmarks.material.synthetic_audio import voice
from benchmarks.results import Figures, say
from deployments.core.batching import pack, padded_ms
from deployments.core.types import SAMPLES_PER_MS, Audio, Hints
from deployments.engines.paraformer.engine import Paraformer
from deployments.engines.paraformer.export_onnx import export
from deployments.engines.paraformer.int8 import weight_limit
from deployments.engines.paraformer.onnx_engine import ParaformerOnnx
from deployments.engines.paraformer.readings import Reading
from deployments.engines.protocols import EngineSettings

SEED = 7
SHORTEST_MS, LONGEST_MS = 500, 15_000
MU, SIGMA = 1.2, 0.7  # mean and standard deviation of the logarithm of a length in seconds
HALF = {"cpu": ("fp16", "bf16")}  # compared on a CPU for agreement only: they are slower there
NO_HINTS, TEXT_ONLY = Hints(), Hints(timed=False)
BATCH_SIZES = (1, 4, 12)
N_SHUFFLES = 2  # random orders, read in batches of mixed lengths
ONNX = {"onnx_fp32": "fp32", "onnx_int8": "int8"}

Engine: TypeAlias = Paraformer | ParaformerOnnx


def run(
    segments: Annotated[int, typer.Option(help="Segments of a round.")] = 60,
    repeats: Annotated[int, typer.Option(help="Rounds; the figures are their medians.")] = 5,
    size: Annotated[Size, typer.Option(help="Geometry of the network.")] = Size.LARGE,
    agreement_segments: Annotated[
        int, typer.Option(help="Segments for comparing number formats; 0: do not compare.")
    ] = 12,
    onnx: Annotated[
        bool, typer.Option(help="Export the model for ONNX Runtime, and compare that too.")
    ] = False,
    rivals: Annotated[
        bool,
        typer.Option(help="Compare with sherpa-onnx and funasr-onnx, where they are installed."),
    ] = True,
    model: Annotated[
        Path | None,
        typer.Option(help="A Paraformer with real weights, to read the sample meeting with."),
    ] = None,
) -> Figures:
    """The engine in fp32 and int8 against AutoModel, and with tiny networks, for the overhead."""
    before = torch.get_num_threads()
    audios = utterances(segments) if model else make_segments(segments)
    try:
        with TemporaryDirectory() as root:
            model_dir = model or write_paraformer(Path(root) / "asr", size=size)
            tiny_dir = write_paraformer(Path(root) / "tiny", size=Size.TINY)
            onnx_dirs = export_all(model_dir, Path(root)) if onnx else {}
            names = installed() if rivals else ()
            exported = export_rivals(model_dir, Path(root)) if names else None
            figures = against_automodel(
                model_dir,
                audios,
                repeats=repeats,
                onnx_dirs=onnx_dirs,
                rivals={name: reader(name, exported) for name in names if exported},
            )
            figures |= footprints(model_dir, exported, names)
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
    """Segments of synthetic voice, always the same, shortest first."""
    rng = random.Random(SEED)
    lengths_ms = sorted(
        round(min(LONGEST_MS, max(SHORTEST_MS, 1000 * rng.lognormvariate(MU, SIGMA))))
        for _ in range(count)
    )
    return [voice(n_ms, seed=SEED + i) for i, n_ms in enumerate(lengths_ms)]


def export_all(model_dir: Path, root: Path) -> dict[str, Path]:
    """Exports the model for ONNX Runtime; returns the directories by the names of their figures."""
    for name, dtype in ONNX.items():
        say(f"Exporting the graphs in {dtype} ...")
        export(model_dir, root / name, int8=dtype == "int8", weight_bits=weight_bits())
    return {name: root / name for name in ONNX}


def export_rivals(model_dir: Path, root: Path) -> Path:
    say("Exporting the model for the rivals ...")
    return export_for_rivals(model_dir, root / "rivals")


def footprints(model_dir: Path, exported: Path | None, names: Sequence[str]) -> Figures:
    """Start-up time and memory of the int8 engine, and of sherpa-onnx if it is among the names."""
    say("Starting in a process of its own ...")
    figures: Figures = {**started(model_dir)}
    if exported is not None and "sherpa" in names:
        figures |= {f"sherpa_{k}": v for k, v in started(exported, rival="sherpa").items()}
    return figures


def weight_bits() -> int:
    """The largest number of bits of a weight for which sums do not saturate on this processor."""
    return weight_limit().bit_length() + 1


def against_automodel(
    model_dir: Path,
    audios: Sequence[Audio],
    *,
    repeats: int,
    onnx_dirs: Mapping[str, Path] = MappingProxyType({}),
    rivals: Mapping[str, Read] = MappingProxyType({}),
) -> Figures:
    """The CPU time of both sides on the same segments, and whether they read the same words."""
    automodel = AutoModelAlone(model_dir)
    engines: dict[str, Engine] = {
        dtype: Paraformer(model_dir, EngineSettings(dtype=dtype)) for dtype in ("fp32", "int8")
    }
    engines |= {name: ParaformerOnnx(path, EngineSettings()) for name, path in onnx_dirs.items()}
    lengths_ms = [len(audio) // SAMPLES_PER_MS for audio in audios]
    batches = pack(lengths_ms, budget_ms=round(cpu_pool(1).batch_audio_s * 1000))
    n_padded_ms = sum(padded_ms([lengths_ms[i] for i in batch]) for batch in batches)

    say("Warming up and comparing the readings ...")
    expected = [automodel.read(audio) for audio in audios]
    found = {name: read_all(engine, audios, batches) for name, engine in engines.items()}
    texts = {name: [read(audio) for audio in audios] for name, read in rivals.items()}

    converted = [as_funasr(audio) for audio in audios]
    sides: dict[str, Callable[[], object]] = {
        "automodel": lambda: [automodel.generate(audio) for audio in converted],
        **{
            dtype: lambda engine=engine: [  # type: ignore[misc]
                engine.transcribe([audios[i] for i in batch], NO_HINTS) for batch in batches
            ]
            for dtype, engine in engines.items()
        },
        "text_only": lambda: [
            engines["int8"].transcribe([audios[i] for i in batch], TEXT_ONLY) for batch in batches
        ],
        **{
            name: lambda read=read: [read(audio) for audio in audios]  # type: ignore[misc]
            for name, read in rivals.items()
        },
    }
    took: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(repeats):
        for side, work in sides.items():
            took[side].append(cpu_seconds(work))
        say("  " + ", ".join(f"{side} {times[-1]:.2f} s" for side, times in took.items()))
    theirs = took["automodel"]
    speedup = {dtype: gain(theirs, took[dtype]) for dtype in engines}
    audio_s = sum(lengths_ms) / 1000
    onnx_identical = {"onnx_identical": int(found["onnx_fp32"] == expected)} if onnx_dirs else {}
    return {
        **{f"{name}_speedup": ratio for name, ratio in speedup.items()},
        "identical": int(found["fp32"] == expected),
        **onnx_identical,
        "text_only_identical": int(same_text(engines["int8"], audios)),
        "text_only_gain": gain(took["int8"], took["text_only"]),
        **{f"int8_over_{name}": gain(took[name], took["int8"]) for name in rivals},
        **{f"{n}_agreement": characters_agree(text, expected) for n, text in texts.items()},
        "n_batches": len(batches),
        "padding_waste": n_padded_ms / sum(lengths_ms) - 1,
        "automodel_rtfx_per_core": audio_s / median(theirs),
        **{f"{name}_rtfx_per_core": audio_s / median(took[name]) for name in (*engines, *rivals)},
    }


def same_text(engine: Engine, audios: Sequence[Audio]) -> bool:
    """Whether the texts with word times are those without."""
    timed, bare = (engine.transcribe(audios, hints) for hints in (NO_HINTS, TEXT_ONLY))
    return [one.text for one in timed] == [one.text for one in bare]


def gain(slower: Sequence[float], faster: Sequence[float]) -> float:
    """How many times as fast one side is, the median over the rounds."""
    return median(a / b for a, b in zip(slower, faster, strict=True))


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
    """How far each other format agrees with fp32, and with itself in batches of mixed lengths.

    Agreement with fp32 is measured for each of BATCH_SIZES.
    """
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


def _in_format(model_dir: Path, dtype: str, onnx_dirs: Mapping[str, Path]) -> Engine:
    if dtype in onnx_dirs:
        return ParaformerOnnx(onnx_dirs[dtype], EngineSettings())
    if dtype == "int8":
        return Paraformer(model_dir, EngineSettings(dtype=dtype))
    return Paraformer(model_dir, EngineSettings(dtype=dtype), dtypes=HALF, by_item=False)


def cpu_seconds(work: Callable[[], object]) -> float:
    """The CPU time of this process during one call."""
    began_s = time.process_time()
    work()
    return time.process_time() - began_s
