"""The command line: `python -m clients transcribe`, `models`, `ready` and the commands for jobs.

Exit status: 0 if all went well, 1 if something failed, 2 for a wrong command line.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from functools import partial
from pathlib import Path

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from clients import job_commands
from clients.batch import Batch
from clients.http import DEFAULT_TIMEOUT_S, Client
from clients.options import (
    DEFAULT_URL,
    ApiKeyFile,
    Channel,
    Files,
    Force,
    Format,
    Hotwords,
    Itn,
    Jobs,
    Language,
    Model,
    OutputDir,
    Prompt,
    ServiceUrl,
    TimeoutS,
    Words,
    complain,
    connect,
    progress_on,
    source_of,
    threads,
)
from clients.outputs import STDIN, Job, plan, prepare, write
from clients.request import Asked, Source, cleaned
from deployments.core.errors import AsrError
from deployments.core.formats import FORMATS
from deployments.core.types import Done, Transcript
from deployments.core.types import Progress as Heard

app = typer.Typer(
    help="Transcribe recordings with a running paraformer-cluster.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.command()
def transcribe(
    context: typer.Context,
    files: Files,
    format_name: Format = "text",
    output_dir: OutputDir = None,
    url: ServiceUrl = DEFAULT_URL,
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
    """Transcribe FILE... and print the transcripts, or write one file for each into DIR.

    Of a folder every recording below it is transcribed, but for those whose transcript is in DIR
    already. An interrupted command goes on where it was.
    """
    if files.count(STDIN) > 1:
        raise typer.BadParameter("- may be given only once.")
    if output_dir is None and FORMATS[format_name].one_per_file and len(files) > 1:
        raise typer.BadParameter(f"Several files as {format_name} need -o DIR.")
    is_folder = len(files) == 1 and os.path.isdir(files[0])
    if is_folder and output_dir is None:
        raise typer.BadParameter("A folder needs -o DIR.")
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
        connect(context, url, api_key_file, timeout_s) as client,
        progress_on(Console(stderr=True)) as progress,
        threads(jobs) as pool,
    ):
        if is_folder and output_dir is not None:
            batch = Batch(client, asked, render, progress, timeout_s, is_fresh=force)
            extension = FORMATS[format_name].extension
            n_failed = batch.run(pool, Path(files[0]), output_dir, extension=extension)
        else:
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
        complain(f"{job.shown}: {error}. Use -o DIR, or set PYTHONIOENCODING=utf-8.")
        return False
    except (AsrError, OSError, ValueError) as error:
        complain(f"{job.shown}: {error}")
        return False
    for warning in transcript.warnings:
        complain(f"{job.shown}: {warning}")
    return True


def _rendered(transcript: Transcript, *, format_name: str, words: bool) -> str:
    granularities = ("segment", "word") if words else ("segment",)
    return FORMATS[format_name].render(transcript, granularities)


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
        return source_of(job.name)
    if sys.stdin is None:
        raise OSError("Standard input is closed.")
    return sys.stdin.buffer


@app.command()
def models(
    context: typer.Context, url: ServiceUrl = DEFAULT_URL, api_key_file: ApiKeyFile = None
) -> None:
    """List the models that are served, and the pools that run them."""
    try:
        with connect(context, url, api_key_file, DEFAULT_TIMEOUT_S) as client:
            served = client.models()
    except AsrError as error:
        complain(str(error))
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
def ready(
    context: typer.Context, url: ServiceUrl = DEFAULT_URL, api_key_file: ApiKeyFile = None
) -> None:
    """Say whether a recording would be transcribed now. Exit status 1 if not."""
    try:
        with connect(context, url, api_key_file, DEFAULT_TIMEOUT_S) as client:
            state = client.ready()
    except AsrError as error:
        complain(str(error))
        raise typer.Exit(1) from None
    for name, pool in state.get("pools", {}).items():
        typer.echo(
            f"{name}: {pool['replicas']} running, {pool['outstanding_audio_s']:.0f} s in progress"
        )
    if not state["ready"]:
        absent = [name for name, n in state.get("stages", {}).items() if not n]
        complain(f"not ready: {state.get('reason') or 'no replica runs of ' + _joined(absent)}")
        raise typer.Exit(1)
    typer.echo("ready")


job_commands.add_to(app)
