"""The command line `python -m clients transcribe | models | ready`.

Exit status: 0 if all went well, 1 if something failed, 2 for a wrong command line.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from stamina.instrumentation import RetryDetails, set_on_retry_hooks

from clients.http import DEFAULT_TIMEOUT_S, Client
from clients.outputs import STDIN, Job, plan, prepare, write
from clients.request import Asked, Source, cleaned
from deployments.core.errors import AsrError
from deployments.core.formats import FORMATS
from deployments.core.types import Done, Transcript
from deployments.core.types import Progress as Heard

DEFAULT_URL = "http://127.0.0.1:8000"

app = typer.Typer(
    help="Transcribe recordings with a running paraformer-cluster.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def known_format(name: str) -> str:
    """The name, where the table of formats has it. Raises BadParameter for any other."""
    if name not in FORMATS:
        raise typer.BadParameter(f"{name!r} is not one of {', '.join(FORMATS)}.")
    return name


Option = typer.Option
Url = Annotated[str, Option(help="Where the service is.", envvar="PARAFORMER_CLUSTER_URL")]
Files = Annotated[
    list[str], typer.Argument(metavar="FILE...", help="Audio or video files; - is standard input.")
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
Force = Annotated[bool, Option("--force", help="Overwrite existing files.")]
ApiKeyFile = Annotated[
    Path | None,
    Option(metavar="FILE", help="A file with the API key; else PARAFORMER_API_KEY has it."),
]
TimeoutS = Annotated[
    float, Option("--timeout", min=1, help="Seconds without any answer to give up after.")
]


def _connect(context: typer.Context, url: str, key_file: Path | None, timeout_s: float) -> Client:
    """The client. A test passes its own function to make one, as the context's object."""
    set_on_retry_hooks([_tell_of_retry])
    make: Callable[..., Client] = context.obj or Client
    try:
        key = key_file.read_text("utf-8") if key_file else os.environ.get("PARAFORMER_API_KEY", "")
        return make(url, timeout_s=timeout_s, api_key=key.strip() or None)
    except (AsrError, OSError, UnicodeError) as error:
        raise typer.BadParameter(str(error)) from None


def _tell_of_retry(details: RetryDetails) -> None:
    _complain(f"{details.caused_by} (trying again in {details.wait_for:.0f} s)")


def _complain(reason: str) -> None:
    typer.echo(cleaned(reason), err=True)


@app.command()
def transcribe(
    context: typer.Context,
    files: Files,
    format_name: Format = "text",
    output_dir: OutputDir = None,
    url: Url = DEFAULT_URL,
    model: Model = None,
    language: Language = None,
    prompt: Prompt = None,
    hotword: Hotwords = None,
    channel: Channel = None,
    words: Words = False,
    itn: Itn = False,
    jobs: Jobs = 2,
    force: Force = False,
    api_key_file: ApiKeyFile = None,
    timeout_s: TimeoutS = DEFAULT_TIMEOUT_S,
) -> None:
    """Transcribe FILE... and print the transcripts, or write one file for each into DIR."""
    if files.count(STDIN) > 1:
        raise typer.BadParameter("- may be given only once.")
    if output_dir is None and FORMATS[format_name].one_per_file and len(files) > 1:
        raise typer.BadParameter(f"Several files as {format_name} need -o DIR.")
    try:
        planned = plan(files, output_dir, FORMATS[format_name].extension)
    except ValueError as error:
        raise typer.BadParameter(cleaned(str(error))) from None
    asked = Asked(
        model=model,
        language=language,
        prompt=prompt,
        hotwords=tuple(hotword or ()),
        channel=channel,
        word_times=words,
        itn=itn,
    )
    render = partial(_rendered, format_name=format_name, words=words)
    with (
        _connect(context, url, api_key_file, timeout_s) as client,
        progress_on(Console(stderr=True)) as progress,
        _threads(jobs) as pool,
    ):
        running = [
            (job, pool.submit(_transcript, client, job, asked, progress, force=force))
            for job in planned
        ]
        n_failed = sum(not _told(job, coming, render, force=force) for job, coming in running)
    if n_failed:
        raise typer.Exit(1)


def _told(
    job: Job, coming: Future[Transcript], render: Callable[[Transcript], str], *, force: bool
) -> bool:
    """Prints or writes the transcript when it comes. False if that failed; stderr says why."""
    try:
        transcript = coming.result()
        text = render(transcript)
        if job.output is None:
            typer.echo(text, nl=not text.endswith("\n"))
        else:
            write(job, text, force=force)
    except UnicodeEncodeError as error:
        _complain(f"{job.shown}: {error}. Use -o DIR, or set PYTHONIOENCODING=utf-8.")
        return False
    except (AsrError, OSError, ValueError) as error:
        _complain(f"{job.shown}: {error}")
        return False
    for warning in transcript.warnings:
        _complain(f"{job.shown}: {warning}")
    return True


@contextmanager
def _threads(n_threads: int) -> Iterator[ThreadPoolExecutor]:
    """A pool of threads that starts no further file after Ctrl-C."""
    pool = ThreadPoolExecutor(n_threads)
    try:
        yield pool
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _rendered(transcript: Transcript, *, format_name: str, words: bool) -> str:
    granularities = ("segment", "word") if words else ("segment",)
    return FORMATS[format_name].render(transcript, granularities)


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


def _transcript(
    client: Client, job: Job, asked: Asked, progress: Progress, *, force: bool
) -> Transcript:
    """The transcript of one recording. Its bar shows how much speech has been recognised."""
    prepare(job, force=force)
    bar = progress.add_task(job.shown, total=None)
    try:
        for event in client.stream(_source(job), **asked):
            if isinstance(event, Heard):
                progress.update(bar, completed=event.done_ms, total=event.total_ms)
            if isinstance(event, Done):
                return event.transcript
    finally:
        progress.remove_task(bar)
    raise AssertionError("a stream ends with Done or an error")


def _source(job: Job) -> Source:
    if job.name != STDIN:
        return job.name
    if sys.stdin is None:
        raise OSError("Standard input is closed.")
    return sys.stdin.buffer


@app.command()
def models(context: typer.Context, url: Url = DEFAULT_URL, api_key_file: ApiKeyFile = None) -> None:
    """List the models that are served, and the pools that run them."""
    try:
        with _connect(context, url, api_key_file, DEFAULT_TIMEOUT_S) as client:
            served = client.models()
    except AsrError as error:
        _complain(str(error))
        raise typer.Exit(1) from None
    table = Table("model", "word times", "languages", "pools", "notes")
    for one in served:
        table.add_row(
            one["id"],
            "yes" if one.get("word_times") else "no",
            _joined(one.get("languages", ())),
            _joined(
                f"{name} ({_joined(how.values())})" for name, how in one.get("pools", {}).items()
            ),
            _joined(one.get("notes", ())),
        )
    Console(soft_wrap=True).print(table)


def _joined(values: Iterable[object]) -> str:
    return ", ".join(str(value) for value in values)


@app.command()
def ready(context: typer.Context, url: Url = DEFAULT_URL, api_key_file: ApiKeyFile = None) -> None:
    """Say whether a recording would be transcribed now. Exit status 1 if not."""
    try:
        with _connect(context, url, api_key_file, DEFAULT_TIMEOUT_S) as client:
            state = client.ready()
    except AsrError as error:
        _complain(str(error))
        raise typer.Exit(1) from None
    for name, pool in state.get("pools", {}).items():
        typer.echo(
            f"{name}: {pool['replicas']} running, {pool['outstanding_audio_s']:.0f} s in progress"
        )
    if not state["ready"]:
        absent = [name for name, n in state.get("stages", {}).items() if not n]
        _complain(f"not ready: {state.get('reason') or 'no replica runs of ' + _joined(absent)}")
        raise typer.Exit(1)
    typer.echo("ready")
