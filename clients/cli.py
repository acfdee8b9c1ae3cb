"""`python -m clients transcribe | models | ready`. Exit status: 0 all fine, 1 failed, 2 usage."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from clients.http import DEFAULT_TIMEOUT_S, Client
from clients.outputs import STDIN, Job, plan, refuse_to_overwrite, write
from clients.request import Asked
from deployments.core.errors import AsrError
from deployments.core.formats import FORMATS
from deployments.core.types import Done, Transcript
from deployments.core.types import Progress as Heard

FormatName = Literal["text", "json", "srt", "vtt", "verbose_json", "detailed_json"]
# Several of these cannot stand in one stream.
ONE_PER_FILE = ("srt", "vtt")
DEFAULT_URL = "http://127.0.0.1:8000"

app = typer.Typer(
    help="Transcribe recordings with a running paraformer-cluster.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Option = typer.Option
Url = Annotated[str, Option(help="Where the service is.", envvar="PARAFORMER_CLUSTER_URL")]
Files = Annotated[
    list[str], typer.Argument(metavar="FILE...", help="Audio or video files; - is stdin.")
]
Format = Annotated[FormatName, Option("--format", "-f", help="What to write.")]
OutputDir = Annotated[
    Path | None,
    Option("--output-dir", "-o", metavar="DIR", help="Write DIR/NAME.EXT, not stdout."),
]
Model = Annotated[str | None, Option(help="The model; by default the deployed one.")]
Language = Annotated[str | None, Option(help="ISO 639-1, such as zh.")]
Prompt = Annotated[str | None, Option(help="Context for models that use it.")]
Hotwords = Annotated[
    list[str] | None, Option("--hotword", help="A word to listen for; may be repeated.")
]
Channel = Annotated[
    int | None, Option(min=0, help="Only this channel, from 0; by default all, mixed.")
]
Words = Annotated[bool, Option("--words", help="Ask for word times; refused where there are none.")]
Itn = Annotated[bool, Option("--itn", help="Write spoken numbers in digits: 三百零五 as 305.")]
Jobs = Annotated[int, Option("--jobs", "-j", min=1, help="Files at a time.")]
Force = Annotated[bool, Option("--force", help="Overwrite files.")]
TimeoutS = Annotated[float, Option("--timeout", min=1, help="Seconds to wait for a sign of life.")]


def _connect(context: typer.Context, url: str, timeout_s: float) -> Client:
    """The client; a test hands in its own maker as the context's object."""
    make: Callable[..., Client] = context.obj or Client
    return make(url, timeout_s=timeout_s)


def _complain(reason: str) -> None:
    typer.echo(reason, err=True)


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
    timeout_s: TimeoutS = DEFAULT_TIMEOUT_S,
) -> None:
    """Transcribe FILE... and print the transcripts, or write one file for each into DIR."""
    if files.count(STDIN) > 1:
        raise typer.BadParameter("- may stand there once.")
    if output_dir is None and format_name in ONE_PER_FILE and len(files) > 1:
        raise typer.BadParameter(f"Several files as {format_name} need -o DIR.")
    try:
        planned = plan(files, output_dir, format_name)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
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
        _connect(context, url, timeout_s) as client,
        progress_on(Console(stderr=True)) as progress,
        _threads(jobs) as pool,
    ):
        running = [
            (job, pool.submit(_transcript, client, job, asked, progress, force=force))
            for job in planned
        ]
        # in the order of the command line
        n_failed = sum(not _told(job, coming, render, force=force) for job, coming in running)
    if n_failed:
        raise typer.Exit(1)


def _told(
    job: Job, coming: Future[Transcript], render: Callable[[Transcript], str], *, force: bool
) -> bool:
    """Whether the transcript came and was printed or written; what is wrong goes to stderr."""
    try:
        transcript = coming.result()
        text = render(transcript)
        if job.output is None:
            typer.echo(text, nl=not text.endswith("\n"))
        else:
            write(job, text, force=force)
    except (AsrError, OSError) as error:
        _complain(f"{job.name}: {error}")
        return False
    for warning in transcript.warnings:
        _complain(f"{job.name}: {warning}")
    return True


@contextmanager
def _threads(n_threads: int) -> Iterator[ThreadPoolExecutor]:
    """A pool that on Ctrl-C starts no further file."""
    pool = ThreadPoolExecutor(n_threads)
    try:
        yield pool
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _rendered(transcript: Transcript, *, format_name: str, words: bool) -> str:
    _, render = FORMATS[format_name]
    return render(transcript, ("segment", "word") if words else ("segment",))


def progress_on(console: Console) -> Progress:
    """One bar for each file; nothing where `console` is not a terminal."""
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
    """One recording's transcript; its bar moves with the speech that has been recognised."""
    refuse_to_overwrite(job, force=force)
    bar = progress.add_task(job.name, total=None)
    try:
        source = sys.stdin.buffer if job.name == STDIN else job.name
        for event in client.stream(source, **asked):
            if isinstance(event, Heard):
                progress.update(bar, completed=event.done_ms, total=event.total_ms)
            if isinstance(event, Done):
                return event.transcript
    finally:
        progress.remove_task(bar)
    raise AssertionError("a stream ends with Done or an error")


@app.command()
def models(context: typer.Context, url: Url = DEFAULT_URL) -> None:
    """List the models that the service has, and how they run."""
    try:
        with _connect(context, url, DEFAULT_TIMEOUT_S) as client:
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
def ready(context: typer.Context, url: Url = DEFAULT_URL) -> None:
    """Say whether a recording would be transcribed now; exit status 1 if not."""
    try:
        with _connect(context, url, DEFAULT_TIMEOUT_S) as client:
            state = client.ready()
    except AsrError as error:
        _complain(str(error))
        raise typer.Exit(1) from None
    for name, pool in state.get("pools", {}).items():
        typer.echo(
            f"{name}: {pool['replicas']} running, {pool['outstanding_audio_s']:.0f} s under way"
        )
    if not state["ready"]:
        absent = [name for name, n in state.get("stages", {}).items() if not n]
        _complain(f"not ready: {state.get('reason') or 'nothing runs of ' + _joined(absent)}")
        raise typer.Exit(1)
    typer.echo("ready")
