"""`python -m deployments.weights fetch | list | verify`: the cache of models from a shell."""

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

from deployments.core.errors import ModelUnavailable
from deployments.weights.catalog import CATALOG
from deployments.weights.settings import cache_root
from deployments.weights.sources import Model, Progress
from deployments.weights.store import cached, ensure, verify_cached
from deployments.weights.verify import FileCheck

app = typer.Typer(no_args_is_help=True, help="Fetch, list and verify the weights of models.")

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
    """Download models into the cache; what is there already is left as it is."""
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
    """Show every model of the catalogue, and which are in the cache."""
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
    """Read every byte of cached models again and compare it with the pinned or recorded hash."""
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
    """One bar per file; a bar that pulses where the source does not say how far it is."""

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
        """Takes the finished model's bars away."""
        for task in self._tasks.values():
            self._bars.remove_task(task)
        self._tasks.clear()


if __name__ == "__main__":
    app()
