"""The command `python -m deployments.weights fetch | list | verify | try` for models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TransferSpeedColumn,
)
from rich.progress import Progress as Bars
from rich.table import Column, Table

from deployments.core.errors import AsrError, ModelUnavailable
from deployments.weights.catalog import CATALOG
from deployments.weights.settings import cache_root
from deployments.weights.sources import Model, Progress
from deployments.weights.store import cached, ensure, verify_cached
from deployments.weights.verify import FileCheck

app = typer.Typer(no_args_is_help=True, help="Fetch, list, verify and try models.")

CacheDir = Annotated[
    Path | None,
    typer.Option(help="Where models are kept; else PARAFORMER_CACHE_DIR, else ~/.cache."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON in place of a table.")]


@app.command()
def fetch(
    models: Annotated[list[str], typer.Argument(help="Ids from `list`.")],
    cache_dir: CacheDir = None,
    offline: Annotated[bool, typer.Option(help="Only look into the cache.")] = False,
) -> None:
    """Download models into the cache. Models that are already there are left as they are."""
    console = Console(stderr=True)
    failed = False
    with _bars(console) as bars:
        shown = _Shown(bars)
        for name in models:
            try:
                weights = ensure(name, cache_dir=cache_dir, offline=offline, on_progress=shown.add)
            except ModelUnavailable as error:
                failed = True
                console.print(
                    str(error), style="red", highlight=False, markup=False, soft_wrap=True
                )
            else:
                shown.finish()
                typer.echo(f"{weights.name}: {weights.path} ({weights.source})")
    raise typer.Exit(1 if failed else 0)


@app.command("list")
def list_models(cache_dir: CacheDir = None, as_json: AsJson = False) -> None:
    """List the models of the catalogue and say which are in the cache."""
    rows = [_row(model, cache_dir) for model in CATALOG.values()]
    if as_json:
        typer.echo(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    table = Table(Column("model", no_wrap=True), "stage", "MB", "sources", "in the cache from")
    for row, model in zip(rows, CATALOG.values(), strict=True):
        size = f"{model.n_bytes / 1e6:.0f}" if model.n_bytes else "?"
        kinds = ", ".join(type(source).__name__ for source in model.sources)
        table.add_row(model.name, model.stage, size, kinds, row["source"] or "-")
    Console().print(table)
    typer.echo(f"cache: {cache_root(cache_dir)}")


@app.command()
def verify(
    models: Annotated[
        list[str] | None, typer.Argument(help="Ids; without any, all that are in the cache.")
    ] = None,
    cache_dir: CacheDir = None,
) -> None:
    """Read every byte of cached models and compare the hashes with those pinned or recorded."""
    names = models or [name for name in CATALOG if cached(name, cache_dir) is not None]
    unknown = [name for name in names if name not in CATALOG]
    if unknown:
        raise typer.BadParameter(f"unknown: {', '.join(unknown)}. Known: {', '.join(CATALOG)}")
    table = Table("model", "file", "held to", "verdict")
    bad = False
    for name in names:
        checks = verify_cached(name, cache_dir)
        bad = bad or any(check.problem for check in checks)
        for check in checks:
            table.add_row(name, *_verdict(check))
    Console().print(table if names else "The cache holds no model.")
    raise typer.Exit(1 if bad else 0)


@app.command("try")
def try_directory(
    model_dir: Annotated[Path, typer.Argument(help="A model's directory.", exists=True)],
    recording: Annotated[
        Path | None, typer.Option(help="A recording in place of the sample meeting.", exists=True)
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of each side.")] = 1,
) -> None:
    """Read the sample meeting with a model, and with FunASR's AutoModel where it is installed.

    The status is 1 if the model is refused or the texts differ.
    """
    from deployments.weights import trial  # loads PyAV and NumPy, which the other commands spare

    sample = recording or trial.SAMPLE
    if not sample.is_file():
        raise typer.BadParameter(f"{sample} is missing: name another with --recording.")
    try:
        ours, funasr = trial.try_model(model_dir.resolve(), sample, threads=threads)
    except AsrError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    table = Table("", "loaded in s", "read in s", "times real time", "peak MiB")
    for side, reading in (("here", ours), ("FunASR", funasr)):
        if not isinstance(reading, str):
            typer.echo(f"{side}: {reading.text}\n")
            seconds = (f"{reading.load_s:.1f}", f"{reading.read_s:.1f}")
            table.add_row(side, *seconds, reading.speed, f"{reading.peak_mib:.0f}")
    Console().print(table)
    if isinstance(funasr, str):
        typer.echo(f"Nothing was compared: {funasr}.")
        return
    difference = trial.first_difference(ours.text, funasr.text)
    typer.echo(f"First difference, {difference}." if difference else "Both texts are equal.")
    raise typer.Exit(1 if difference else 0)


def _row(model: Model, cache_dir: Path | None) -> dict[str, Any]:
    weights = cached(model.name, cache_dir)
    return {
        "name": model.name,
        "family": model.family,
        "stage": model.stage,
        "license": model.license,
        "n_bytes": model.n_bytes or None,  # of the files whose size is known
        "pinned": all(file.sha256 for file in model.files),
        "cached": weights is not None,
        "path": str(weights.path) if weights else None,
        "source": weights.source if weights else None,
        "sources": [str(source) for source in model.sources],
    }


def _verdict(check: FileCheck) -> tuple[str, str, str]:
    return check.path, check.how, f"[red]{check.problem}[/red]" if check.problem else "good"


def _bars(console: Console) -> Bars:
    return Bars(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeElapsedColumn(),
        console=console,
    )


class _Shown:
    """One progress bar per file. The bar pulses if the source does not report its progress."""

    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}

    def add(self, progress: Progress) -> None:
        name = f"{progress.model} {progress.file or 'from ' + progress.source}"
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(name, total=progress.total_bytes)
        self._bars.update(
            self._tasks[name], completed=progress.done_bytes, total=progress.total_bytes
        )

    def finish(self) -> None:
        """Removes the bars of the finished model."""
        for task in self._tasks.values():
            self._bars.remove_task(task)
        self._tasks.clear()


if __name__ == "__main__":
    app()
