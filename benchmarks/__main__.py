"""`python -m benchmarks NAME [--json] [--record] [OPTION ...]` runs one benchmark.

The result is one flat set of figures. `--record` appends them to RESULTS.md. Without a name the
command lists the benchmarks; `NAME --help` lists the options of one. Everything but the figures
goes to stderr, so that `--json` writes exactly one object to stdout.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from typing import Any, TextIO

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.results import Figures, append, check_flat, circumstances, section, shown


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A benchmark's function and what it shows."""

    # "module:function". The module is imported only when the benchmark runs, because some need Ray
    # or torch. The function's parameters are the command's options.
    target: str
    caption: str


BENCHMARKS = {
    "pipeline": Benchmark(
        "benchmarks.service.pipeline:run",
        "The service against its engines in one process, and against funasr-server.",
    ),
    "long": Benchmark(
        "benchmarks.service.long_recording:run",
        "One recording of an hour through the service: peak memory of each process, files left.",
    ),
    "uploads": Benchmark(
        "benchmarks.service.uploads:run",
        "Large uploads through the service: the memory of each process, for one and for several.",
    ),
    "jobs": Benchmark(
        "benchmarks.service.jobs:run",
        "Jobs whose workers are killed at random, on both databases: lost, twice, leases a second.",
    ),
    "keys": Benchmark(
        "benchmarks.service.keys:run",
        "The check of an API key: its CPU time, and a request with a key that has limits.",
    ),
    "punctuation": Benchmark(
        "benchmarks.engines.punctuation:run",
        "CT-Transformer against FunASR on one thread or a GPU: a batch of documents, a long one.",
    ),
    "engine": Benchmark(
        "benchmarks.engines.paraformer:run",
        "The Paraformer engine against FunASR's AutoModel on one core: speed, overhead, agreement.",
    ),
    "vad": Benchmark(
        "benchmarks.engines.vad:run",
        "The VAD's CPU time against FunASR's and by part, and its memory on ten hours of audio.",
    ),
    "gpu": Benchmark(
        "benchmarks.gpu.engines:run",
        "The engines alone on one GPU: the speed of each stage and of all, and what bounds it.",
    ),
    "dispatch": Benchmark(
        "benchmarks.dispatch.simulated:run",
        "The time of one recording on unlike GPUs, relative to an ideal plan's (simulated).",
    ),
    "dispatch_on_ray": Benchmark(
        "benchmarks.dispatch.on_ray:run",
        "The same on real Ray: five fake nodes, engines that sleep, replicas and a node that die.",
    ),
    "short_requests": Benchmark(
        "benchmarks.dispatch.short_requests:run",
        "The 95th percentile of short requests, with and without a file of 10 hours (simulated).",
    ),
    "padding": Benchmark(
        "benchmarks.engines.padding:run",
        "The padding in a replica's batches: an hour, and 1, 8, 64 short requests (simulated).",
    ),
    "accuracy": Benchmark(
        "benchmarks.service.accuracy:run",
        "The character error rate of Whisper, or another model, over HTTP and of its engine alone.",
    ),
    "overhead": Benchmark(
        "benchmarks.service.overhead:run",
        "A short request beside its recognition, against funasr-server: latency, CPU, requests/s.",
    ),
    "fuzz": Benchmark(
        "benchmarks.service.fuzz:run",
        "Damaged recordings of every kind through the decoder: errors, time for a MB, memory.",
    ),
    "itn": Benchmark(
        "benchmarks.service.itn:run",
        "Spoken numbers in digits: the sentences that are wrong, against wetext alone.",
    ),
    "autoscale": Benchmark(
        "benchmarks.dispatch.autoscale:run_day",
        "The autoscaling policy over a day of load: changes of direction, waits and cost.",
    ),
}
FLAGS = ("--json", "--record")


def main(arguments: Sequence[str]) -> int:
    """The exit status: 0, or 2 where there is no such benchmark."""
    name, rest = (arguments[0], arguments[1:]) if arguments else ("", ())
    if name not in BENCHMARKS:
        _show_list()
        return 2 if name and name != "--help" else 0
    benchmark = BENCHMARKS[name]
    options = [argument for argument in rest if argument not in FLAGS]
    made = circumstances()
    with only_stderr() as stdout:
        figures = check_flat(command(name, function(benchmark.target), options))
        if "--json" in rest:
            print(json.dumps(figures, ensure_ascii=False), file=stdout)
        else:
            console = Console(file=stdout, highlight=False)
            console.print(f"{benchmark.caption}\n", markup=False)
            console.print(_table(figures))
    if "--record" in rest:
        told = ["python", "-m", "benchmarks", name, *options]
        append(section(name, told, figures, made, benchmark.caption))
    return 0


def function(target: str) -> Callable[..., Figures]:
    """Imports the benchmark that "module:function" names."""
    module, name = target.split(":")
    found: Callable[..., Figures] = getattr(importlib.import_module(module), name)
    return found


def command(name: str, benchmark: Callable[..., Figures], options: Sequence[str]) -> Figures:
    """Runs the function with options from the command line.

    Raises SystemExit where the options are wrong, and after `--help`.
    """
    kept: list[Figures] = []

    @functools.wraps(benchmark)
    def keep(*args: Any, **kwargs: Any) -> None:
        kept.append(benchmark(*args, **kwargs))

    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command(name)(keep)
    try:
        app(list(options), prog_name=f"python -m benchmarks {name}")
    except SystemExit as done:
        if not kept:
            raise SystemExit(done.code) from None
    return kept[0]


@contextmanager
def only_stderr() -> Iterator[TextIO]:
    """Redirects stdout to stderr, also that of subprocesses; yields the real stdout.

    Stdout is flushed and restored on leaving.
    """
    sys.stdout.flush()
    real = os.dup(1)
    os.dup2(2, 1)
    try:
        with (
            os.fdopen(os.dup(real), "w", encoding="utf-8") as stdout,
            redirect_stdout(sys.stderr),
        ):
            yield stdout
    finally:
        sys.stdout.flush()
        os.dup2(real, 1)
        os.close(real)


def _show_list() -> None:
    table = Table("NAME", "what it measures", box=None, header_style="bold")
    for name, benchmark in BENCHMARKS.items():
        table.add_row(name, benchmark.caption)
    console = Console()
    console.print("python -m benchmarks NAME [--json] [--record] [--help]\n", markup=False)
    console.print(table)


def _table(figures: Figures) -> Table:
    table = Table("figure", "value", box=None, header_style="bold")
    for figure, value in figures.items():
        table.add_row(figure, shown(value))
    return table


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
