"""`make demo`: serve on loopback, send a Mandarin recording through HTTP, show the transcript.

Everything happens as a user of the service would see it. The weights come from any source that
can be reached, and are kept for the next run.
"""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from ray.exceptions import RayError
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar
from rich.text import Text

from clients.http import Client
from deployments.config import AppConfig
from deployments.core.errors import AsrError, ModelUnavailable
from deployments.core.types import Delta, Done, Progress, Transcript
from deployments.demo.recording import Fetch, Recording, find_recording
from deployments.demo.screen import Screen, Story, show, sum_up, svg_of
from deployments.resolve import FALLBACK, choose_asr, family_of
from deployments.serve import load_config, running
from deployments.weights.catalog import CATALOG
from deployments.weights.sources import DiskFull
from deployments.weights.sources import Progress as Fetched
from deployments.weights.store import ensure, is_cached

CONFIG = Path(__file__).parent.parent.parent / "demo.yaml"
MIN_CPUS = 2  # what the graph declares; on one core it still runs, only slower
PICTURE_COLUMNS = 100
INTERRUPTED = 130  # a shell's exit code for Ctrl-C
HOW_TO_PARAFORMER = (
    "The mistakes above are this model's. To hear Paraformer, run `.venv/bin/python -m "
    "deployments.weights fetch paraformer-zh ct-punc-zh` where a hub can be reached, copy the "
    "cache to this machine, and run `make demo` again."
)

PAGE = "Transcribe your own recordings in a browser: `make serve-demo`, then http://127.0.0.1:8000/"


def main(
    picture: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.svg",
            help="Also draw the screen as an SVG. The README's: --picture docs/images/demo.svg",
        ),
    ] = None,
) -> None:
    """Serve on loopback, transcribe a Mandarin recording through HTTP, and stop.

    Weights are downloaded once and kept (PARAFORMER_CACHE_DIR, else ~/.cache).
    """
    width = PICTURE_COLUMNS if picture else None
    lasting = Console(highlight=False, record=picture is not None, width=width)
    screen = Screen(lasting=lasting, passing=Console(highlight=False))
    code = exit_code(lambda: _demo(screen), screen)
    if code == 0 and picture is not None:
        picture.write_text(svg_of(lasting), encoding="utf-8")
    raise typer.Exit(code)


def exit_code(act: Callable[[], None], screen: Screen) -> int:
    """0, or the exit code of a failure, after its reason and what to do were printed."""
    try:
        act()
    except KeyboardInterrupt:
        screen.say("Interrupted. Downloads are kept: run `make demo` again.", style="yellow")
        return INTERRUPTED
    except (AsrError, OSError, RuntimeError, ValidationError, RayError) as error:
        screen.say(f"The demo failed: {error}", style="red")
        screen.say(remedy(error), style="bold")
        return 1
    return 0


def remedy(error: Exception) -> str:
    """A sentence that says what to do about a failure."""
    if isinstance(error.__cause__, DiskFull) or getattr(error, "errno", None) == errno.ENOSPC:
        return (
            "Free some space, or name a directory on another disk in PARAFORMER_CACHE_DIR. "
            "Then run `make demo` again."
        )
    if isinstance(error, ModelUnavailable):
        return (
            "The demo needs a model hub, or PyPI and npm, for its first run. Connect this machine "
            "or set up a mirror, then run `make demo` again: it resumes, and later runs need no "
            "network."
        )
    return (
        "Run `make demo` again. If it fails again, `.venv/bin/python -m cluster doctor` looks for "
        "the cause on this machine, and Ray's logs are in /tmp/ray/session_latest/logs."
    )


def _demo(screen: Screen) -> None:
    """The demo from weights to summary; raises what fails."""
    began_s = time.monotonic()
    story = Story()

    def fetch(ref: str) -> Path:
        return _fetch(ref, screen, story)

    with screen.step("Looking for a model hub (3 s at most)"):
        config = load_config(CONFIG)
        config = serving(config, *choose_asr(config.models))
    recording = find_recording(fetch, story.notes)
    stand_in = ", a small stand-in for Paraformer" if config.models.asr == FALLBACK else ""
    screen.say(f"Transcribing {recording.what} with {config.models.asr}{stand_in}.", style="bold")
    chosen, config = config.models.asr, with_models(config, fetch, story.notes)
    if config.models.asr != chosen:
        screen.say(f"{chosen} could not be fetched. {config.models.asr} takes its place.")
    with _served(config, screen, story) as url:
        transcript = _transcribe(url, recording, screen, story)
        show(transcript, screen)
    story.wall_s = time.monotonic() - began_s
    if config.models.asr == FALLBACK:
        story.notes += [*config.notes, HOW_TO_PARAFORMER]
    sum_up(transcript, screen, story)
    screen.say()
    screen.say(PAGE, style="bold")


@contextmanager
def _served(config: AppConfig, screen: Screen, story: Story) -> Iterator[str]:
    """The service's URL; it is stopped on leaving, and the screen says so."""
    began_s = time.monotonic()
    with ExitStack() as stack:
        with screen.step("Starting Ray and loading the models (half a minute or so)"):
            url = stack.enter_context(running(config, port=_free_port(), num_cpus=_num_cpus()))
        story.start_s = time.monotonic() - began_s
        try:
            yield url
        finally:
            with screen.step("Stopping"):
                stack.close()


def serving(config: AppConfig, asr: str, note: str) -> AppConfig:
    """The configuration with this model, and the reason for it, which `/v1/models` shows too."""
    models = config.models.model_copy(update={"asr": asr})
    return config.model_copy(update={"models": models, "notes": (note,)})


def with_models(config: AppConfig, fetch: Fetch, notes: list[str]) -> AppConfig:
    """The configuration whose models are here now: the fallback's where Paraformer's fail.

    Raises ModelUnavailable where the fallback's cannot be had either.
    """
    try:
        _fetch_models(config, fetch)
    except ModelUnavailable as error:
        if config.models.asr == FALLBACK:
            raise
        notes.append(str(error))
        reason = f"{error.name} could not be fetched: serving {FALLBACK} instead, "
        config = serving(config, FALLBACK, reason + "a smaller and less accurate model.")
        _fetch_models(config, fetch)
    return config


def _fetch_models(config: AppConfig, fetch: Fetch) -> None:
    models = config.models
    fetch(models.vad)
    fetch(models.asr)
    if models.punctuation and not family_of(models.asr).punctuates:
        fetch(models.punctuation)


def _fetch(ref: str, screen: Screen, story: Story) -> Path:
    """The model's directory, with a bar while it is downloaded."""
    if is_cached(ref):
        return ensure(ref).path
    what = f"Fetching {ref} ({CATALOG[ref].n_bytes / 1e6:.0f} MB, kept for the next run)"
    if not screen.passing.is_terminal:
        screen.passing.print(f"{what} ...")
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    began_s = time.monotonic()
    with Bar(
        *columns, console=screen.passing, transient=True, disable=not screen.passing.is_terminal
    ) as bar:
        task = bar.add_task(what, total=None)

        def show(fetched: Fetched) -> None:
            bar.update(
                task,
                description=f"{what} from {fetched.source}",
                completed=fetched.done_bytes,
                total=fetched.total_bytes,
            )

        weights = ensure(ref, on_progress=show)
    story.fetch_s += time.monotonic() - began_s
    return weights.path


def _transcribe(url: str, recording: Recording, screen: Screen, story: Story) -> Transcript:
    """The transcript; while it grows, its text is on the terminal."""
    bar = Bar(TextColumn("Listening"), BarColumn(), TextColumn("{task.percentage:.0f}%"))
    task = bar.add_task("", total=None)
    text, sent_s = "", time.monotonic()
    with Client(url) as client:
        screen.say(f"Ready: {_replicas(client)}. Sending {recording.origin} to {url}.")
        screen.say()
        with Live(console=screen.passing, transient=True) as live:
            for event in client.stream(recording.content):
                match event:
                    case Delta(more):
                        story.first_text_s = story.first_text_s or time.monotonic() - sent_s
                        text += more
                    case Progress(done_ms, total_ms):
                        bar.update(task, completed=done_ms, total=total_ms)
                    case Done(transcript):
                        return transcript
                live.update(Group(Text(text), bar))
    raise AssertionError("a stream ends with Done")


def _replicas(client: Client) -> str:
    pools: dict[str, Any] = client.ready()["pools"]
    counts = {name: pool["replicas"] for name, pool in pools.items()}
    words = [f"{n} replica{'' if n == 1 else 's'} in pool {name}" for name, n in counts.items()]
    return ", ".join(words)


def _num_cpus() -> int | None:
    """What to tell Ray: the graph must fit on the smallest machine."""
    return None if (os.cpu_count() or 1) >= MIN_CPUS else MIN_CPUS


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
