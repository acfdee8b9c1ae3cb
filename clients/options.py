"""The options that commands share, and what every command does: connect, complain, draw bars."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from stamina.instrumentation import RetryDetails, set_on_retry_hooks

from clients.http import Client
from clients.request import Source, Url, cleaned
from deployments.core.errors import AsrError
from deployments.core.formats import FORMATS

DEFAULT_URL = "http://127.0.0.1:8000"
URL_STARTS = ("http://", "https://", "s3://", "oss://", "gs://")


def known_format(name: str) -> str:
    """The name, where the table of formats has it. Raises BadParameter for any other."""
    if name not in FORMATS:
        raise typer.BadParameter(f"{name!r} is not one of {', '.join(FORMATS)}.")
    return name


Option = typer.Option
ServiceUrl = Annotated[str, Option(help="Where the service is.", envvar="PARAFORMER_CLUSTER_URL")]
Files = Annotated[
    list[str],
    typer.Argument(
        metavar="FILE...",
        help="Audio or video files, URLs, or one folder; - is standard input.",
    ),
]
Format = Annotated[
    str,
    Option(
        "--format",
        "-f",
        parser=known_format,
        metavar="|".join(FORMATS),
        help="Format of the transcripts.",
    ),
]
OutputDir = Annotated[
    Path | None,
    Option("--output-dir", "-o", metavar="DIR", help="Write DIR/NAME.EXT instead of stdout."),
]
Model = Annotated[str | None, Option(help="The model; default: the deployed one.")]
Language = Annotated[str | None, Option(help="ISO 639-1, such as zh.")]
Prompt = Annotated[str | None, Option(help="Context, for models that use it.")]
Hotwords = Annotated[
    list[str] | None, Option("--hotword", help="A word to listen for; may be repeated.")
]
Channel = Annotated[
    int | None, Option(min=0, help="Only this channel, from 0; default: all mixed.")
]
Words = Annotated[
    bool, Option("--words", help="Ask for word times; an error if the model has none.")
]
Itn = Annotated[bool, Option("--itn", help="Write spoken numbers in digits: 三百零五 as 305.")]
Jobs = Annotated[int, Option("--jobs", "-j", min=1, help="Files to send at the same time.")]
Force = Annotated[bool, Option("--force", help="Overwrite files that exist.")]
ApiKeyFile = Annotated[
    Path | None,
    Option(metavar="FILE", help="A file with the API key; else PARAFORMER_API_KEY has it."),
]
TimeoutS = Annotated[
    float, Option("--timeout", min=1, help="Seconds without any answer to give up after.")
]


def source_of(name: str) -> Source:
    """What an argument names: a file, or a URL of the schemes that the service fetches."""
    return Url(name) if name.lower().startswith(URL_STARTS) else name


def connect(context: typer.Context, url: str, key_file: Path | None, timeout_s: float) -> Client:
    """The client. A test passes its own function to make one, as the context's object."""
    set_on_retry_hooks([_tell_of_retry])
    make: Callable[..., Client] = context.obj or Client
    try:
        key = key_file.read_text("utf-8") if key_file else os.environ.get("PARAFORMER_API_KEY", "")
        return make(url, timeout_s=timeout_s, api_key=key.strip() or None)
    except (AsrError, OSError, UnicodeError) as error:
        raise typer.BadParameter(str(error)) from None


def _tell_of_retry(details: RetryDetails) -> None:
    complain(f"{details.caused_by} (trying again in {details.wait_for:.0f} s)")


def complain(reason: str) -> None:
    typer.echo(cleaned(reason), err=True)


def progress_on(console: Console) -> Progress:
    """One bar for each file, if `console` is a terminal."""
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


@contextmanager
def threads(n_threads: int) -> Iterator[ThreadPoolExecutor]:
    """A pool of threads that starts no further work after Ctrl-C."""
    pool = ThreadPoolExecutor(n_threads)
    try:
        yield pool
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
