"""`pipeline`: the service against its engines in one process, and against FunASR's server.

Everything runs on the same cores with the same random weights. The sides take turns (A B A B), and
a figure is the median of the rounds. The processes of both sides stay loaded: one side idles during
the other's turn. All sides use fp32, except in the last comparison: the service starts again in
int8, against the same funasr-server, which has no int8.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Annotated

import numpy as np
import typer

from benchmarks.machine import cores, cpu_pool, free_port
from benchmarks.material.random_models import Punc, Size
from benchmarks.material.recordings import shuffled_meeting, wav_bytes
from benchmarks.results import Figures, say
from benchmarks.service import funasr_server
from benchmarks.service.one_process import Heard, OneProcess
from benchmarks.service.served import configuration, make_models
from clients.http import Client
from deployments.config import Dtype, Models, Pool
from deployments.core.types import SAMPLE_RATE_HZ, Audio, Transcript
from deployments.serve import running

CLIENT_TIMEOUT_S = 3600.0
WARM_UP_MS = 20_000
SEED = 5
# Lengths of the recordings of several clients at once, drawn evenly: messages, calls, meetings.
CLIENT_SECONDS = (60, 300)
# Above this load ratios mean little, because a side whose threads spin at barriers loses most.
QUIET_LOAD = 0.5


@dataclass(frozen=True, slots=True)
class Pair:
    """The seconds that two sides took for the same work, round by round."""

    ours_s: Sequence[float]
    theirs_s: Sequence[float]

    @property
    def ratio(self) -> float:
        """The median over the rounds of our time divided by theirs in the same round."""
        pairs = zip(self.ours_s, self.theirs_s, strict=True)
        return median(ours / theirs for ours, theirs in pairs)


def in_turns(ours: Callable[[], object], theirs: Callable[[], object], *, repeats: int) -> Pair:
    """Times both sides in turns, A B A B."""
    ours_s, theirs_s = [], []
    for round_number in range(repeats):
        ours_s.append(seconds_of(ours))
        theirs_s.append(seconds_of(theirs))
        say(f"  round {round_number + 1}: {ours_s[-1]:.2f} s against {theirs_s[-1]:.2f} s")
    return Pair(ours_s, theirs_s)


def seconds_of(work: Callable[[], object]) -> float:
    """The wall time of one call."""
    began_s = time.perf_counter()
    work()
    return time.perf_counter() - began_s


def run(
    seconds: Annotated[
        int, typer.Option(help="Seconds of audio for the service against its engines.")
    ] = 600,
    repeats: Annotated[int, typer.Option(help="Rounds; the figures are their medians.")] = 3,
    size: Annotated[Size, typer.Option(help="Geometry of the networks.")] = Size.LARGE,
    punctuation: Annotated[Punc, typer.Option(help="Kind of CT-Transformer.")] = Punc.ZH,
    threads: Annotated[int, typer.Option(help="Cores and ASR threads of each side.")] = 2,
    replicas: Annotated[
        int, typer.Option(help="ASR replicas that share the threads; 0: as many as `pools: auto`.")
    ] = 0,
    funasr: Annotated[bool, typer.Option(help="Compare with funasr-server too.")] = True,
    funasr_seconds: Annotated[
        int, typer.Option(help="Seconds of audio of the single client.")
    ] = 180,
    clients: Annotated[int, typer.Option(help="Clients at once in the second comparison.")] = 8,
    client_seconds: Annotated[
        tuple[int, int], typer.Option(help="Shortest and longest audio of these clients.")
    ] = CLIENT_SECONDS,
    int8: Annotated[bool, typer.Option(help="Compare the service in int8 too.")] = True,
) -> Figures:
    """The service against its engines in one process, and against funasr-server."""
    pool = cpu_pool(threads, replicas or None)
    load_1min = os.getloadavg()[0]
    if load_1min > QUIET_LOAD:
        say(f"The load is {load_1min:.1f}: other work is running, so the figures mean little.")
    with TemporaryDirectory() as root, cores(threads), ExitStack() as stack:
        models = make_models(Path(root), size=size, punctuation=punctuation)
        with _service(models, pool, threads=threads, dtype="fp32") as client:
            figures = _against_engine(client, models, pool, n_ms=seconds * 1000, repeats=repeats)
            if funasr:
                say("Starting funasr-server ...")
                url = stack.enter_context(_baseline(Path(root), models, n_threads=threads))
                funasr_server.transcribe(url, wav_bytes(shuffled_meeting(WARM_UP_MS, seed=SEED)))
                alone = [shuffled_meeting(funasr_seconds * 1000, seed=0)]
                at_once = distinct_recordings(clients, client_seconds)
                figures |= _against_funasr(client, url, alone, repeats=repeats)
                figures |= _against_funasr(client, url, at_once, repeats=repeats)
                figures |= lengths_of(at_once)
        if funasr and int8:
            with _service(models, pool, threads=threads, dtype="int8") as client:
                client.transcribe(wav_bytes(shuffled_meeting(WARM_UP_MS, seed=SEED + 1)))
                found = _against_funasr(client, url, at_once, repeats=repeats)
                figures |= {f"int8_{figure}": value for figure, value in found.items()}
    return {
        "audio": "the sample meeting's utterances in random order",
        "weights": f"random, {size}, SeACo, punctuation {punctuation}, fp32 but where it says int8",
        "vad": "real" if Path(models.vad).name == "fsmn-vad" else "random",
        "threads_service": f"{pool.max_replicas} replicas x {pool.num_threads}",
        "threads_engine": threads,
        "threads_funasr_server": threads,
        "repeats": repeats,
        "load_1min_before": load_1min,
        **figures,
    }


@contextmanager
def _service(models: Models, pool: Pool, *, threads: int, dtype: Dtype) -> Iterator[Client]:
    """Starts the service; yields a client of it; stops it on leaving."""
    say(f"Starting the service, {dtype}: {pool.max_replicas} x {pool.num_threads} threads ...")
    service = running(configuration(models, pool, dtype=dtype), port=free_port(), num_cpus=threads)
    with service as url, Client(url, timeout_s=CLIENT_TIMEOUT_S) as client:
        yield client


def distinct_recordings(count: int, seconds: tuple[int, int]) -> list[Audio]:
    """Different recordings of random lengths, always the same ones."""
    lengths_s = np.random.default_rng(SEED).uniform(*seconds, count)
    return [shuffled_meeting(round(1000 * s), seed=seed) for seed, s in enumerate(lengths_s)]


def lengths_of(audios: Sequence[Audio]) -> Figures:
    """The lengths of the shortest and the longest recording."""
    lengths_s = [len(audio) / SAMPLE_RATE_HZ for audio in audios]
    n = len(audios)
    return {f"shortest_s_{n}": min(lengths_s), f"longest_s_{n}": max(lengths_s)}


def _against_engine(
    client: Client, models: Models, pool: Pool, *, n_ms: int, repeats: int
) -> Figures:
    n_threads = pool.num_threads * pool.max_replicas
    direct = OneProcess(models, num_threads=n_threads, batch_audio_s=pool.batch_audio_s)
    audio = shuffled_meeting(n_ms, seed=SEED)
    wav = wav_bytes(audio)
    warm_up = shuffled_meeting(WARM_UP_MS, seed=SEED + 1)
    client.transcribe(wav_bytes(warm_up))
    direct.transcribe(warm_up)

    say(f"Service against one process, {n_ms / 1000:.0f} s of audio:")
    heard: list[Transcript] = []
    read: list[Heard] = []
    took = in_turns(
        lambda: heard.append(client.transcribe(wav)),
        lambda: read.append(direct.transcribe(audio)),
        repeats=repeats,
    )
    service_s, engine_s = median(took.ours_s), median(took.theirs_s)
    segments = heard[0].segments
    return {
        "service_over_engine": took.ratio,
        "audio_s": n_ms / 1000,
        "speech_s": sum(s.end_ms - s.start_ms for s in segments) / 1000,
        "n_segments": len(segments),
        "n_chars": len(heard[0].text),
        "padded_s": read[0].padded_ms / 1000,
        "service_s": service_s,
        "engine_s": engine_s,
        "service_rtfx": n_ms / 1000 / service_s,
        "engine_rtfx": n_ms / 1000 / engine_s,
        "same_text": int({t.text for t in heard} == {h.text for h in read}),
        "failed_segments": sum(s.error is not None for s in segments),
    }


def _baseline(root: Path, models: Models, *, n_threads: int) -> AbstractContextManager[str]:
    """Runs `funasr-server` on the service's own model directories."""
    assert models.punctuation is not None
    return funasr_server.funasr_server(
        root / "funasr-server",
        vad=Path(models.vad),
        asr=Path(models.asr),
        punctuation=Path(models.punctuation),
        num_threads=n_threads,
        port=free_port(),
    )


def _against_funasr(client: Client, url: str, audios: Sequence[Audio], *, repeats: int) -> Figures:
    """Both sides on the same recordings, with one client for each recording, all at once."""
    n, audio_s = len(audios), sum(map(len, audios)) / SAMPLE_RATE_HZ
    wavs = [wav_bytes(audio) for audio in audios]
    ours: list[str] = []
    theirs: list[str] = []
    say(f"Service against funasr-server, {n} at once, {audio_s:.0f} s of audio in all:")
    with ThreadPoolExecutor(n) as senders:
        took = in_turns(
            lambda: ours.extend(senders.map(lambda wav: client.transcribe(wav).text, wavs)),
            lambda: theirs.extend(senders.map(partial(funasr_server.transcribe, url), wavs)),
            repeats=repeats,
        )
    service_s, funasr_s = median(took.ours_s), median(took.theirs_s)
    return {
        f"speedup_over_funasr_server_{n}": 1 / took.ratio,
        f"audio_s_{n}": audio_s,
        f"service_s_{n}": service_s,
        f"funasr_server_s_{n}": funasr_s,
        f"service_rtfx_{n}": audio_s / service_s,
        f"funasr_server_rtfx_{n}": audio_s / funasr_s,
        f"service_chars_{n}": sum(map(len, ours)) // repeats,
        f"funasr_server_chars_{n}": sum(map(len, theirs)) // repeats,
    }
