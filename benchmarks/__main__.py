"""`python -m benchmarks NAME [--json] [--record] [OPTION ...]`: one flat set of figures.

Without a name it lists the benchmarks; `NAME --help` shows what one can be told. Everything but
the figures goes to stderr, so that `--json` writes exactly one object to stdout.
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
    """Where a benchmark is, imported only to be run, and what it shows."""

    target: str  # "module:function"; the function's parameters are the command's options
    caption: str


BENCHMARKS = {
    "pipeline": Benchmark(
        "benchmarks.pipeline:run",
        "The service against one process with the same engines, and against funasr-server.",
    ),
    "long": Benchmark(
        "benchmarks.long_recording:run",
        "An hour of audio through the service: peak memory of each process, files left behind.",
    ),
    "punctuation": Benchmark(
        "benchmarks.punctuation:run",
        "CT-Transformer against FunASR, one thread or a GPU: a batch of documents, and a long one.",
    ),
    "engine": Benchmark(
        "benchmarks.engine:run",
        "The Paraformer engine against FunASR's AutoModel on one core: speed, overhead, equality.",
    ),
    "vad": Benchmark(
        "benchmarks.vad:run",
        "CPU time of the VAD against FunASR's, its parts, and its memory over ten hours of audio.",
    ),
    "gpu": Benchmark(
        "benchmarks.gpu:run",
        "The engines alone on one GPU: speed of each stage and of all, and what bounds them.",
    ),
    "dispatch": Benchmark(
        "benchmarks.dispatch:run",
        "One recording over unlike GPUs: makespan over a plan that knows every speed (simulated).",
    ),
    "dispatch_on_ray": Benchmark(
        "benchmarks.dispatch_on_ray:run",
        "The same on real Ray: five fake nodes, sleeping engines, real audio; deaths.",
    ),
    "short_requests": Benchmark(
        "benchmarks.short_requests:run",
        "95th percentile of short requests with and without a file of 10 hours; --real: on Ray.",
    ),
    "padding": Benchmark(
        "benchmarks.padding:run",
        "Padding in a replica's batches: an hour, and 1, 8 and 64 short requests (simulated).",
    ),
    "accuracy": Benchmark(
        "benchmarks.served_accuracy:run",
        "Character error rate of the Whisper default through HTTP and of its engine directly.",
    ),
    "autoscale": Benchmark(
        "benchmarks.autoscale:run_day",
        "A day of load through the autoscaling policy: swings, waits, cost; with a plot.",
    ),
}
FLAGS = ("--json", "--record")


def main(arguments: Sequence[str]) -> int:
    """The exit status: 0, or 2 where the command was not understood."""
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
    """The benchmark behind "module:function"."""
    module, name = target.split(":")
    found: Callable[..., Figures] = getattr(importlib.import_module(module), name)
    return found


def command(name: str, benchmark: Callable[..., Figures], options: Sequence[str]) -> Figures:
    """Runs the function as a command line would; exits where the options are wrong or for help."""
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
    """What is written to stdout goes to stderr, that of subprocesses too; yields the real stdout.

    Flushed and put back on leaving.
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
    table = Table("NAME", "what it shows", box=None, header_style="bold")
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
