"""`accuracy`: the character error rate of the running service, and of its engine alone.

The direct side runs the same engine in this process on the segments of the same VAD. So any
difference between the two sides comes from the service. The table says for each set of files how
many texts are equal. The clips are real speech; the sample meeting is synthetic speech.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.machine import cores, cpu_pool, free_port
from benchmarks.material.recordings import EXTRA, SAMPLE, read_audio
from benchmarks.results import Figures, say
from benchmarks.service.cer import cer
from benchmarks.service.one_process import OneProcess
from benchmarks.service.served import POOL
from clients.http import Client
from deployments.config import AppConfig, Models
from deployments.core.errors import ModelUnavailable
from deployments.core.types import SAMPLE_RATE_HZ
from deployments.serve import running
from deployments.weights.identify import identify
from deployments.weights.store import ensure

CLIPS = EXTRA / "audio"
CLIENT_TIMEOUT_S = 3600.0
DTYPE = "int8"
DEFAULT_MODEL = "whisper-small"


@dataclass(frozen=True, slots=True)
class Case:
    """A recording and its transcript."""

    file: Path
    reference: str | None  # None: the case only shows whether both sides agree


@dataclass(frozen=True, slots=True)
class Outcome:
    """The texts of both sides for a case."""

    case: Case
    audio_s: float
    service: str
    direct: str


def run(
    model: Annotated[
        list[str] | None,
        typer.Option(help="A value of models.asr; repeatable. Default: whisper-small."),
    ] = None,
    clips: Annotated[Path, typer.Option(help="Directory with clips.json.")] = CLIPS,
    meeting: Annotated[bool, typer.Option(help="Read the sample meeting too.")] = True,
    limit: Annotated[int, typer.Option(help="Most clips to read; 0: all.")] = 0,
    threads: Annotated[
        int, typer.Option(help="Cores of each side, for which `pools: auto` chooses the threads.")
    ] = 2,
) -> Figures:
    """The character error rate of each model over HTTP and of its engine alone."""
    sets = {"clips": clip_cases(clips, limit=limit), "demo": demo_cases()}
    sets |= {"meeting": [meeting_case()]} if meeting else {}
    names = model or [DEFAULT_MODEL]
    return of_models({name: measured(name, sets, threads) for name in names})


def measured(model: str, sets: dict[str, list[Case]], threads: int) -> Figures:
    """The figures of one model."""
    models = Models(asr=model, punctuation=None)
    pool = cpu_pool(threads)
    config = AppConfig(models=models, pools={POOL: pool}, dtype=DTYPE)
    with cores(threads):
        # The direct side needs the thread count of a replica, because whisper.cpp adds up one
        # partial sum per thread. With another count a text may differ (seen with whisper-tiny);
        # with the same count it does not.
        direct = OneProcess(
            models, num_threads=pool.num_threads, batch_audio_s=pool.batch_audio_s, dtype=DTYPE
        )
        say("Starting the service ...")
        with (
            running(config, port=free_port(), num_cpus=threads) as url,
            Client(url, timeout_s=CLIENT_TIMEOUT_S) as client,
        ):
            outcomes = {
                name: [_read(case, client, direct) for case in cases]
                for name, cases in sets.items()
            }
    Console(stderr=True).print(table(outcomes))
    return figures_of(outcomes) | {"model": model, "engine": identify(model).family}


def of_models(found: dict[str, Figures]) -> Figures:
    """The figures of one model unchanged; of several, each figure with the model's name.

    `pipeline_equals_engine` is then 1 only where it is 1 for every model.
    """
    if len(found) == 1:
        return next(iter(found.values()))
    figures: Figures = {
        "pipeline_equals_engine": min(int(f["pipeline_equals_engine"]) for f in found.values())
    }
    for model, own in found.items():
        figures |= {f"{key}_{model}": value for key, value in own.items() if key != "model"}
    return figures


def clip_cases(directory: Path, *, limit: int) -> list[Case]:
    """The clips with their transcripts. Where the clips are absent, says so and returns none."""
    listed = directory / "clips.json"
    if not listed.exists():
        say(f"{listed} is not there: no real clips are read.")
        return []
    clips = json.loads(listed.read_text("utf-8"))
    return [Case(directory / clip["file"], clip["text"]) for clip in clips][: limit or None]


def demo_cases() -> list[Case]:
    """The demo's real recording, which has no transcript; none where it is not available."""
    try:
        return [Case(next(ensure("demo-recording").path.rglob("*.wav")), None)]
    except ModelUnavailable as error:
        say(str(error))
        return []


def meeting_case() -> Case:
    """The project's sample meeting."""
    utterances = json.loads(SAMPLE.with_suffix(".json").read_text("utf-8"))["utterances"]
    return Case(SAMPLE, "".join(said["text"] for said in utterances))


def _read(case: Case, client: Client, direct: OneProcess) -> Outcome:
    say(f"  {case.file.name}")
    audio = read_audio(case.file)
    service = client.transcribe(case.file).text
    return Outcome(case, len(audio) / SAMPLE_RATE_HZ, service, direct.transcribe(audio).text)


def figures_of(outcomes: dict[str, list[Outcome]]) -> Figures:
    """The error rates of each set that has references, and whether both sides always agree."""
    everything = [outcome for some in outcomes.values() for outcome in some]
    n_different = sum(outcome.service != outcome.direct for outcome in everything)
    figures: Figures = {"pipeline_equals_engine": int(bool(everything) and not n_different)}
    for name, some in outcomes.items():
        known = [outcome for outcome in some if outcome.case.reference is not None]
        if known:
            references = [str(outcome.case.reference) for outcome in known]
            figures[f"cer_{name}"] = cer(references, [outcome.service for outcome in known])
            figures[f"cer_{name}_direct"] = cer(references, [outcome.direct for outcome in known])
        figures[f"files_{name}"] = len(some)
        figures[f"audio_s_{name}"] = sum(outcome.audio_s for outcome in some)
    return figures | {"files_that_differ": n_different}


def table(outcomes: dict[str, list[Outcome]]) -> Table:
    """A table with one row for each set of files."""
    drawn = Table("set", "files", "audio s", "CER service", "CER direct", "texts equal")
    figures = figures_of(outcomes)
    for name, some in outcomes.items():
        n_equal = sum(outcome.service == outcome.direct for outcome in some)
        rates = [figures.get(f"cer_{name}{suffix}") for suffix in ("", "_direct")]
        shown = [f"{rate:.2%}" if isinstance(rate, float) else "no reference" for rate in rates]
        audio_s = f"{sum(outcome.audio_s for outcome in some):.1f}"
        drawn.add_row(name, str(len(some)), audio_s, *shown, f"{n_equal} of {len(some)}")
    return drawn
