"""`overhead`: what a short request costs beside its recognition, against funasr-server.

Tiny models with random weights on both sides, and a recording of 5 s: almost all that is measured
is the way of the request. CPU time is that of all processes of a side while 16 clients send.
"""

from __future__ import annotations

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Annotated

import httpx
import psutil
import typer

from benchmarks.machine import cores, cpu_pool, free_port
from benchmarks.material.random_models import Punc, Size
from benchmarks.material.recordings import shuffled_meeting, wav_bytes
from benchmarks.results import Figures, say
from benchmarks.service.footprint import part_of
from benchmarks.service.funasr_server import funasr_server
from benchmarks.service.served import configuration, make_models
from deployments.serve import running

RECORDING_MS = 5000
CLIENTS = 16
WARM_UP_REQUESTS = 30
OURS, FUNASR = "", "funasr_"  # before the names of the figures
MODEL = {OURS: "whisper-1", FUNASR: "paraformer"}
PATH = "/v1/audio/transcriptions"
TIMEOUT_S = 120.0


def run(
    requests: Annotated[int, typer.Option(help="Requests of the single client, a round.")] = 100,
    crowd: Annotated[int, typer.Option(help="Requests of 16 clients together, a round.")] = 400,
    repeats: Annotated[int, typer.Option(help="Rounds; the figures are their medians.")] = 3,
    threads: Annotated[int, typer.Option(help="Cores and ASR threads of each side.")] = 2,
    funasr: Annotated[bool, typer.Option(help="Measure funasr-server too.")] = True,
) -> Figures:
    """Latency of one client, CPU time of a request and requests a second of 16 clients."""
    wav = wav_bytes(shuffled_meeting(RECORDING_MS, seed=0))
    with TemporaryDirectory() as root, cores(threads), ExitStack() as stack:
        models = make_models(Path(root), size=Size.TINY, punctuation=Punc.ZH)
        say("Starting the service ...")
        config = configuration(models, cpu_pool(threads))
        ours = stack.enter_context(running(config, port=free_port(), num_cpus=threads))
        sides = {OURS: ours}
        if funasr:
            say("Starting funasr-server ...")
            theirs = funasr_server(
                Path(root),
                vad=Path(models.vad),
                asr=Path(models.asr),
                punctuation=Path(str(models.punctuation)),
                num_threads=threads,
                port=free_port(),
            )
            sides[FUNASR] = stack.enter_context(theirs)
        rounds: list[Figures] = []
        for number in range(repeats):
            found: Figures = {}
            for side, url in sides.items():
                figures = _measured(url, wav, requests, crowd, side)
                found |= {f"{side}{name}": value for name, value in figures.items()}
            rounds.append(found)
            say(f"  round {number + 1}: {found}")
    figures = {name: median(float(one.get(name, 0)) for one in rounds) for name in rounds[-1]}
    return figures | {"audio_s": RECORDING_MS / 1000, "threads": threads, "repeats": repeats}


def _measured(url: str, wav: bytes, requests: int, crowd: int, side: str) -> Figures:
    """The figures of one side, one client first and then 16."""
    with httpx.Client(base_url=url, timeout=TIMEOUT_S, trust_env=False) as client:

        def send(_: int) -> float:
            began_s = time.perf_counter()
            files, data = {"file": ("a.wav", wav)}, {"model": MODEL[side]}
            client.post(PATH, files=files, data=data).raise_for_status()
            return time.perf_counter() - began_s

        for number in range(WARM_UP_REQUESTS):
            send(number)
        alone_s = sorted(send(number) for number in range(requests))
        before_us, began_s = cpu_by_part_us(side), time.perf_counter()
        with ThreadPoolExecutor(CLIENTS) as pool:
            list(pool.map(send, range(crowd)))
        took_s, after_us = time.perf_counter() - began_s, cpu_by_part_us(side)
    used_ms = {part: (after_us[part] - before_us[part]) / 1000 / crowd for part in after_us}
    parts = {f"cpu_ms_{part}": value for part, value in used_ms.items() if len(used_ms) > 1}
    return {
        "p50_ms": 1000 * median(alone_s),
        "p95_ms": 1000 * alone_s[int(0.95 * len(alone_s))],
        "requests_per_s_16": crowd / took_s,
        "cpu_ms": sum(used_ms.values()),
        **parts,
    }


def cpu_by_part_us(side: str) -> Counter[str]:
    """CPU microseconds of a side's processes so far, by deployment or part of Ray."""
    found: Counter[str] = Counter()
    for process in psutil.Process().children(recursive=True):
        try:
            times, title = process.cpu_times(), " ".join(process.cmdline())
        except psutil.Error:
            continue  # the process has ended
        if (side == FUNASR) == ("funasr.bin.server" in title):
            found[part_of(title) or "other"] += round(1e6 * (times.user + times.system))
    return found
