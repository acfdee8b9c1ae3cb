"""`gpu`: the engines alone on one GPU, from PCM to punctuated words, and what bounds their speed.

The benchmark runs without Ray, so that it can be taken to any machine with a GPU. `--sections` runs
a part of it. `--device cpu --size tiny` tries all of it on any machine. The weights are random with
the true geometry, because speed does not depend on their values. Agreement between number formats
on random weights shows that the arithmetic is right. It says nothing of accuracy.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Annotated

import numpy as np
import typer

from benchmarks.gpu import measures
from benchmarks.gpu.checks import Bench, agreements, out_of_memory
from benchmarks.gpu.funasr import against_funasr
from benchmarks.gpu.graphs import graphs
from benchmarks.gpu.pipeline import NO_HINTS, Pipeline, Run, Setup, batches_of, chunk_of
from benchmarks.gpu.replicas import rtfx_of, run_replicas
from benchmarks.material.model_files import asr_tokens, punctuation_tokens
from benchmarks.material.random_models import (
    PUNC_SHAPES,
    TRUE_ASR_TOKENS,
    Punc,
    Size,
    write_paraformer,
    write_punctuation,
    write_vad,
)
from benchmarks.material.recordings import shuffled_meeting
from benchmarks.results import Figures, say
from deployments.core.types import SAMPLES_PER_MS, Audio
from deployments.engines.calibration import CudaMemory
from deployments.engines.device import free_cache

SEED = 11
PAUSE_MS = (200, 1200)  # shorter than the default, so that more than 70 % is speech
N_GAPS = 8  # recordings that run under the profiler


def run(
    device: Annotated[str, typer.Option(help="cuda or cpu.")] = "cuda",
    dtype: Annotated[
        str, typer.Option(help="Number format of the ASR; a CPU takes only fp32.")
    ] = "fp16",
    size: Annotated[Size, typer.Option(help="Geometry of the networks.")] = Size.LARGE,
    files: Annotated[int, typer.Option(help="Recordings at once.")] = 64,
    minutes: Annotated[float, typer.Option(help="Length of each recording.")] = 10.0,
    single_minutes: Annotated[
        float, typer.Option(help="Length of the recording that is read alone.")
    ] = 60.0,
    batch_audio_s: Annotated[
        float, typer.Option(help="Most seconds of audio in a batch, padding included.")
    ] = 1200.0,
    vad_together: Annotated[int, typer.Option(help="Recordings in a step of the VAD.")] = 8,
    repeats: Annotated[int, typer.Option(help="Rounds; the figures are their medians.")] = 3,
    replicas: Annotated[
        str, typer.Option(help="Numbers of processes on the GPU, tried one after another.")
    ] = "1,2,4,8",
    sections: Annotated[
        str, typer.Option(help="Sections to run: all, or names with commas between.")
    ] = "all",
    funasr: Annotated[bool, typer.Option(help="Measure FunASR's AutoModel too.")] = False,
    funasr_files: Annotated[int, typer.Option(help="Recordings that AutoModel reads.")] = 2,
    funasr_batches_s: Annotated[
        str, typer.Option(help="Values of AutoModel's batch_size_s to try.")
    ] = "60,300,900",
) -> Figures:
    """The engines alone on one GPU, without Ray: the figures of the chosen sections."""
    chosen = list(SECTIONS) if sections == "all" else sections.split(",")
    if unknown := set(chosen) - set(SECTIONS):
        raise typer.BadParameter(
            f"there is no section {unknown}; there are: {', '.join(SECTIONS)}."
        )
    with TemporaryDirectory() as folder:
        root = Path(folder)
        say("Making models and recordings ...")
        write_models(root, size)
        setup = Setup(root, device, dtype, batch_audio_s, vad_together)
        audios = recordings(files, minutes)
        hour = recordings(1, single_minutes)[0] if "single" in chosen else audios[0]
        pipeline = Pipeline(setup)
        say("A first pass ...")
        first = pipeline.run(audios)
        counts = tuple(int(n) for n in replicas.split(","))
        bench = Bench(setup, pipeline, audios, hour, first, repeats, counts, root)
        figures: Figures = {
            "weights": f"random, {size}, SeACo, punctuation zh",
            "device": device,
            "dtype": dtype,
            "files": files,
            "file_s": minutes * 60,
            "speech_share": first.speech_s / first.audio_s,
            "n_segments": sum(map(len, first.segments)),
            "n_words": sum(map(len, first.words)),
        }
        for name in chosen:
            say(f"Section {name} ...")
            found = SECTIONS[name](bench)
            say(json.dumps(found))  # so that a run that is cut short has shown its figures so far
            figures |= found
        if funasr:
            sets = {"funasr_": audios[:funasr_files]}
            if "single" in chosen:
                sets["funasr_single_"] = [hour]
            figures |= against_funasr(
                root,
                sets,
                device=device,
                batches_s=[int(n) for n in funasr_batches_s.split(",")],
                repeats=repeats,
            )
        return figures


def write_models(root: Path, size: Size) -> None:
    """Writes asr/, vad/ and punc/ with vocabularies of the true size."""
    write_paraformer(root / "asr", size=size, tokens=asr_tokens(TRUE_ASR_TOKENS))
    write_vad(root / "vad", size=size)
    words = punctuation_tokens(PUNC_SHAPES[size, Punc.ZH][-1])
    write_punctuation(root / "punc", variant=Punc.ZH, size=size, tokens=words)


def recordings(count: int, minutes: float) -> list[Audio]:
    """Different recordings of one length."""
    n_ms = round(minutes * 60_000)
    return [shuffled_meeting(n_ms, seed=SEED + i, pause_ms=PAUSE_MS) for i in range(count)]


def speeds(runs: Sequence[Run], prefix: str) -> Figures:
    """Audio seconds a second of each stage and end to end: the median over the runs."""
    stages = {
        "vad": [run.vad_s for run in runs],
        "asr": [run.asr_s for run in runs],
        "punctuation": [run.punctuation_s for run in runs],
        "end_to_end": [run.wall_s for run in runs],
    }
    figures: Figures = {}
    for stage, took_s in stages.items():
        figures[f"{prefix}{stage}_rtfx"] = runs[0].audio_s / median(took_s)
    return figures | {
        f"{prefix}wall_s": median(stages["end_to_end"]),
        f"{prefix}padding_waste": runs[0].padded_s / max(runs[0].speech_s, 1e-9) - 1,
        f"{prefix}n_batches": runs[0].n_batches,
        f"{prefix}failed_segments": sum(run.n_failed for run in runs),
        f"{prefix}out_of_memory": sum(run.n_out_of_memory for run in runs),
    }


def many(bench: Bench) -> Figures:
    """All recordings at once: speed, memory, and the ASR's share of a matrix product's speed."""
    device, dtype = bench.setup.device, bench.setup.dtype
    if device == "cuda":
        CudaMemory().reset()
    runs = [bench.pipeline.run(bench.audios) for _ in range(bench.repeats)]
    figures = speeds(runs, "") | measures.memory(device)
    held_ms = bench.pipeline.calibrated_ms
    if held_ms is not None:
        figures["calibrated_batch_audio_s"] = held_ms / 1000
    pieces = bench.pieces()
    fullest = [pieces[i] for i in batches_of(pieces, bench.pipeline.runner())[0]]
    gflop = measures.gflop_per_audio_s(bench.pipeline.asr, fullest)
    peaks = {name: measures.matmul_tflops(name, device) for name in sorted({dtype, "fp32", "tf32"})}
    asr_tflops = gflop * runs[0].speech_s / median(run.asr_s for run in runs) / 1000
    batch_s = measures.seconds(lambda: bench.pipeline.asr.read(fullest, NO_HINTS), device)
    batch_audio_s = sum(map(len, fullest)) / SAMPLES_PER_MS / 1000
    return figures | {
        "gflop_per_audio_s": gflop,
        **{f"matmul_{name}_tflops": value for name, value in peaks.items()},
        "asr_tflops": asr_tflops,
        "asr_share_of_matmul": asr_tflops / peaks[dtype],
        "full_batch_rtfx": batch_audio_s / batch_s,
        "full_batch_share_of_matmul": gflop * batch_audio_s / batch_s / 1000 / peaks[dtype],
        "copy_in_share_of_batch": measures.copy_in_s(fullest, device) / batch_s,
    }


def single(bench: Bench) -> Figures:
    """The speed on one long recording alone."""
    runs = [bench.pipeline.run([bench.hour]) for _ in range(bench.repeats + 1)]
    audio: Figures = {"single_audio_s": runs[0].audio_s}
    return audio | speeds(runs[1:], "single_")


def in_fp32(bench: Bench) -> Figures:
    """The speed on all recordings at once with the ASR in fp32, and TF32 off."""
    pipeline = Pipeline(replace(bench.setup, dtype="fp32"))
    runs = [pipeline.run(bench.audios) for _ in range(bench.repeats + 1)]
    return speeds(runs[1:], "fp32_")


def gaps(bench: Bench) -> Figures:
    """For each stage the part of its time in which the device waits for the host."""
    pipeline, device = bench.pipeline, bench.setup.device
    audios = bench.audios[:N_GAPS]
    found = pipeline.run(audios)
    pieces = bench.pieces()[: sum(map(len, found.segments))]
    runner = pipeline.runner()
    [batch, *_] = batches_of(pieces, runner)
    chunk = chunk_of([pieces[i] for i in batch])
    stages: dict[str, Callable[[], object]] = {
        "vad": lambda: pipeline.detect(audios),
        "asr_batch": lambda: runner.run([chunk]),
        "punctuation": lambda: pipeline.punctuate(found.spoken),
        "end_to_end": lambda: pipeline.run(audios),
    }
    return {f"{name}_idle_share": measures.idle_share(do, device) for name, do in stages.items()}


def replicated(bench: Bench) -> Figures:
    """The speed of several processes that share the GPU equally, and the best number of them."""
    files = [bench.root / f"{i}.npy" for i in range(len(bench.audios))]
    for file, audio in zip(files, bench.audios, strict=True):
        np.save(file, audio)
    figures: Figures = {}
    found: dict[int, float] = {}
    free_cache()  # so that this process holds only its weights beside the other processes
    for n in bench.replicas:
        done = run_replicas(bench.setup, files, n)
        found[n] = rtfx_of(done)
        figures[f"replicas_{n}_rtfx"] = found[n]
        figures[f"replicas_{n}_failed_segments"] = sum(d.n_failed for d in done)
        say(f"  {n} processes: {found[n]:.1f} times real time")
    return figures | {"best_replicas": max(found, key=lambda n: found[n])}


SECTIONS: dict[str, Callable[[Bench], Figures]] = {
    "many": many,
    "single": single,
    "fp32": in_fp32,
    "gaps": gaps,
    "agreement": agreements,
    "oom": out_of_memory,
    "replicas": replicated,
    "graphs": graphs,  # last, because a failed capture may leave this process's CUDA unusable
}
