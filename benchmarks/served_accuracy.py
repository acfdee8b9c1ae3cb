"""`accuracy`: character error rate through the running service, and of its engine directly.

The direct side runs the same engine in this process on the segments of the same VAD, so any
difference between the two is the pipeline's own. Whether the texts are equal is said per file set;
the error rate is that of real speech for the clips, of synthetic speech for the sample meeting.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.cer import cer
from benchmarks.one_process import OneProcess
from benchmarks.recordings import EXTRA, SAMPLE, read_audio
from benchmarks.results import Figures
from benchmarks.served import POOL, cores, cpu_pool, free_port, say
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
    """A recording; without a reference it only shows whether both sides agree."""

    file: Path
    reference: str | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What both sides made of a case."""

    case: Case
    audio_s: float
    service: str
    direct: str


def run(
    model: Annotated[
        list[str] | None,
        typer.Option(help="Of models.asr, whisper-small where none is named; repeatable."),
    ] = None,
    clips: Annotated[Path, typer.Option(help="Directory with clips.json.")] = CLIPS,
    meeting: Annotated[bool, typer.Option(help="Read the sample meeting too.")] = True,
    limit: Annotated[int, typer.Option(help="Clips to read at most; 0: all.")] = 0,
    threads: Annotated[
        int, typer.Option(help="Cores of each side; the pool says its threads.")
    ] = 2,
) -> Figures:
    """Character error rate of each model through HTTP and of its engine directly."""
    sets = {"clips": clip_cases(clips, limit=limit), "demo": demo_cases()}
    sets |= {"meeting": [meeting_case()]} if meeting else {}
    names = model or [DEFAULT_MODEL]
    return of_models({name: measured(name, sets, threads) for name in names})


def measured(model: str, sets: dict[str, list[Case]], threads: int) -> Figures:
    """One model's figures."""
    models = Models(asr=model, punctuation=None)
    pool = cpu_pool(threads)
    config = AppConfig(models=models, pools={POOL: pool}, dtype=DTYPE)
    with cores(threads):
        # As many threads as a replica: whisper.cpp sums up in parts, one for each, and with another
        # number of them a text may differ (seen with tiny; the same number gives the same text).
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
    """One model's figures as they are; of several each under its name, and the least equality."""
    if len(found) == 1:
        return next(iter(found.values()))
    figures: Figures = {
        "pipeline_equals_engine": min(int(f["pipeline_equals_engine"]) for f in found.values())
    }
    for model, own in found.items():
        figures |= {f"{key}_{model}": value for key, value in own.items() if key != "model"}
    return figures


def clip_cases(directory: Path, *, limit: int) -> list[Case]:
    """The clips with their transcripts; none, and a word about it, where they are absent."""
    listed = directory / "clips.json"
    if not listed.exists():
        say(f"{listed} is not there: no real clips are read.")
        return []
    clips = json.loads(listed.read_text("utf-8"))
    return [Case(directory / clip["file"], clip["text"]) for clip in clips][: limit or None]


def demo_cases() -> list[Case]:
    """The demo's real recording, which has no transcript, where it can be had."""
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
    """Error rates of each set that has references, and whether the two sides agree everywhere."""
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
    """One row a file set."""
    drawn = Table("set", "files", "audio s", "CER service", "CER direct", "texts equal")
    figures = figures_of(outcomes)
    for name, some in outcomes.items():
        n_equal = sum(outcome.service == outcome.direct for outcome in some)
        rates = [figures.get(f"cer_{name}{suffix}") for suffix in ("", "_direct")]
        shown = [f"{rate:.2%}" if isinstance(rate, float) else "no reference" for rate in rates]
        audio_s = f"{sum(outcome.audio_s for outcome in some):.1f}"
        drawn.add_row(name, str(len(some)), audio_s, *shown, f"{n_equal} of {len(some)}")
    return drawn
