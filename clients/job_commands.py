"""The commands for jobs: `submit`, `watch`, `result`, `cancel` and `list`.

Exit status: 0 if all went well, 1 if something failed, 2 for a wrong command line.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from clients.board import Board
from clients.http import DEFAULT_TIMEOUT_S
from clients.job_options import (
    BINARY,
    After,
    Chosen,
    Edited,
    ExpiresS,
    FileNumber,
    JobFormat,
    JobId,
    JobIds,
    Limit,
    Metadata,
    Name,
    Output,
    Priority,
    Sources,
    Together,
    Webhook,
)
from clients.jobs.asked import JobAsked
from clients.jobs.model import Job
from clients.options import (
    DEFAULT_URL,
    ApiKeyFile,
    Channel,
    Force,
    Hotwords,
    Itn,
    Language,
    Model,
    Prompt,
    ServiceUrl,
    TimeoutS,
    complain,
    connect,
    progress_on,
    source_of,
    threads,
)
from clients.outputs import write_whole_bytes
from clients.request import Url, cleaned
from deployments.core.errors import AsrError
from deployments.core.jobs.model import STATES

N_WATCHED = 64  # jobs that are asked for at the same time


@contextmanager
def _told() -> Iterator[None]:
    """Tells an error of the service or of a file, and exits with status 1."""
    try:
        yield
    except (AsrError, OSError) as error:
        complain(str(error))
        raise typer.Exit(1) from None


def submit(
    context: typer.Context,
    sources: Sources,
    together: Together = False,
    name: Name = None,
    priority: Priority = 0,
    expires_after_s: ExpiresS = None,
    metadata: Metadata = None,
    webhook: Webhook = None,
    url: ServiceUrl = DEFAULT_URL,
    model: Model = None,
    language: Language = None,
    prompt: Prompt = None,
    hotword: Hotwords = None,
    channel: Channel = None,
    itn: Itn = False,
    api_key_file: ApiKeyFile = None,
    timeout_s: TimeoutS = DEFAULT_TIMEOUT_S,
) -> None:
    """Submit each FILE or URL as a job, and print the ids of the jobs."""
    asked: JobAsked = {
        "name": name,
        "priority": priority,
        "expires_after_s": expires_after_s,
        "metadata": metadata,
        "webhook": webhook,
        "model": model,
        "language": language,
        "prompt": prompt,
        "hotwords": tuple(hotword or ()),
        "channel": channel,
        "itn": itn,
    }
    found = [source_of(source) for source in sources]
    urls = [source for source in found if isinstance(source, Url)]
    if together and len(urls) < len(found):
        raise typer.BadParameter("--together takes URLs only.")
    n_failed = 0
    with connect(context, url, api_key_file, timeout_s) as client:
        for shown, source in [("all", urls)] if together else zip(sources, found, strict=True):
            try:
                typer.echo(client.jobs.submit(source, **asked).id)
            except (AsrError, OSError) as error:
                complain(f"{shown}: {error}")
                n_failed += 1
    if n_failed:
        raise typer.Exit(1)


def watch(
    context: typer.Context,
    jobs: JobIds,
    url: ServiceUrl = DEFAULT_URL,
    api_key_file: ApiKeyFile = None,
    timeout_s: TimeoutS = DEFAULT_TIMEOUT_S,
) -> None:
    """Show each file of JOB... until all jobs have ended. Status 1 unless all are completed."""
    ids = list(dict.fromkeys(jobs))
    with (
        connect(context, url, api_key_file, timeout_s) as client,
        progress_on(Console(stderr=True)) as progress,
        threads(min(len(ids), N_WATCHED)) as pool,
    ):
        board = Board(progress)
        running = [(job, pool.submit(client.jobs.wait, job, tell=board.show)) for job in ids]
        n_failed = 0
        for job, coming in running:
            try:
                n_failed += not coming.result().is_completed
            except AsrError as error:
                complain(f"{job}: {error}")
                n_failed += 1
    if n_failed:
        raise typer.Exit(1)


def result(
    context: typer.Context,
    job: JobId,
    format_name: JobFormat = "text",
    file: FileNumber = 0,
    output: Output = None,
    edited: Edited = False,
    force: Force = False,
    url: ServiceUrl = DEFAULT_URL,
    api_key_file: ApiKeyFile = None,
    timeout_s: TimeoutS = DEFAULT_TIMEOUT_S,
) -> None:
    """Print the transcript of a file of JOB, or write it to PATH."""
    if output is None and format_name in BINARY and sys.stdout.isatty():
        raise typer.BadParameter(f"{format_name} needs -o PATH.")
    with _told(), connect(context, url, api_key_file, timeout_s) as client:
        if output is not None and output.exists() and not force:
            raise FileExistsError(f"{output} exists; --force overwrites it.")
        content = client.jobs.export(job, format_name, file=file, edited=edited)
        if output is not None:
            write_whole_bytes(output, content)
        elif format_name in BINARY:
            typer.echo(content, nl=False)
        else:
            text = content.decode()
            typer.echo(text, nl=not text.endswith("\n"))


def cancel(
    context: typer.Context,
    jobs: JobIds,
    url: ServiceUrl = DEFAULT_URL,
    api_key_file: ApiKeyFile = None,
    timeout_s: TimeoutS = DEFAULT_TIMEOUT_S,
) -> None:
    """Cancel JOB... and print the state of each. A job that had ended stays as it was."""
    n_failed = 0
    with connect(context, url, api_key_file, timeout_s) as client:
        for job in jobs:
            try:
                typer.echo(f"{job} {client.jobs.cancel(job).state}")
            except AsrError as error:
                complain(str(error))
                n_failed += 1
    if n_failed:
        raise typer.Exit(1)


def list_jobs(
    context: typer.Context,
    state: Chosen = None,
    limit: Limit = 20,
    after: After = None,
    url: ServiceUrl = DEFAULT_URL,
    api_key_file: ApiKeyFile = None,
    timeout_s: TimeoutS = DEFAULT_TIMEOUT_S,
) -> None:
    """List jobs from the newest on: a table, or lines with tabs where there is no terminal."""
    states = [one for one in STATES if one in (state or ())]
    with _told(), connect(context, url, api_key_file, timeout_s) as client:
        page = client.jobs.list(states=states, limit=limit, after=after)
    rows = [
        (job.id, cleaned(job.name), job.state, str(len(job.files)), *_times(job))
        for job in page.jobs
    ]
    console = Console()
    if console.is_terminal:
        table = Table(Column("job", no_wrap=True), "name", "state", "files", "done", "created")
        for row in rows:
            table.add_row(*map(escape, row))
        console.print(table)
    else:
        for row in rows:
            typer.echo("\t".join(row))
    if page.next_cursor:
        complain(f"There are more: --after {page.next_cursor}")


def _times(job: Job) -> tuple[str, str]:
    """How much is done, and when the job was made."""
    done_s, total_s = job.progress.audio_s_done, job.progress.audio_s_total
    share = f"{100 * done_s / total_s:.0f}%" if total_s else ""
    return share, time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(job.created_s))


def add_to(app: typer.Typer) -> None:
    for command in (submit, watch, result, cancel):
        app.command()(command)
    app.command("list")(list_jobs)
