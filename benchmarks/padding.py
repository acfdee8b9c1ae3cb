"""`padding`: how much padding the replicas' batches hold, on the trial's lengths of segments.

The real scheduler sends chunks to one replica, whose real runner merges what waits together and
packs it into batches; only the clock and the engine are made up. `padding_...` is counted as
budgets are: a batch costs its number of segments times the longest. `wasted_...` is what a GPU
computes for nothing: layers see the rows of real audio alone (`engines/packed.py`), attention is
padded to the longest.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np
import typer

from benchmarks.results import Figures
from deployments.core.batching import worthwhile_slack_ms
from deployments.core.chunks import Chunk, ChunkRunner
from deployments.core.events import Action, Finished, PoolSize, Submit
from deployments.core.planning import PoolSpec
from deployments.core.scheduling import Scheduler, orders
from deployments.core.types import SAMPLES_PER_MS, Audio, Hints, Recognition

# The trial's law of segments: seconds, log-normal with a median of 6.7 s, cut to 1..30 s.
MU, SIGMA, SHORTEST_S, LONGEST_S = 1.9, 0.7, 1.0, 30.0
CONCURRENT = (1, 8, 64)
POOL, NO_HINTS = "gpu", Hints()
ROW_MS = 60  # of audio in a row of the encoder
WIDTH, INNER = 512, 2048  # of Paraformer-large's encoder: rows, and within the feed-forward part


def run(
    batch_audio_s: Annotated[float, typer.Option(help="A pool's cap on padded seconds.")] = 600.0,
    speed: Annotated[float, typer.Option(help="Audio seconds a second of the replica.")] = 1000.0,
    overhead_ms: Annotated[float, typer.Option(help="Of a batch.")] = 20.0,
    short_s: Annotated[float, typer.Option(help="Speech in a short request.")] = 20.0,
    trials: Annotated[int, typer.Option(help="Draws of each case, counted together.")] = 20,
) -> Figures:
    """Padding over audio of an hour of speech, and of 1, 8 and 64 short requests at once."""
    spec = PoolSpec(POOL, round(batch_audio_s * 1000), speed, overhead_ms, 8, 30_000)
    cases = {"padding_hour": (1, 3600.0)}
    cases |= {f"padding_{n}": (n, short_s) for n in CONCURRENT}
    figures: Figures = {}
    for name, (n_requests, seconds) in cases.items():
        done = [
            played(spec, [drawn_ms(seconds, rng) for _ in range(n_requests)])
            for rng in map(random.Random, range(trials))
        ]
        figures[name] = waste(done)
        figures[name.replace("padding", "wasted")] = wasted(done)
        figures[f"{name}_batches"] = sum(one.n_batches for one in done) / trials
    return figures | {
        "batch_audio_s": batch_audio_s,
        "speed": speed,
        "overhead_ms": overhead_ms,
        "short_s": short_s,
        "trials": trials,
    }


@dataclass(slots=True)
class Done:
    """What a replica made of the requests."""

    real_ms: int = 0
    padded_ms: int = 0
    n_batches: int = 0
    needed_flop: float = 0.0  # of an encoder layer
    computed_flop: float = 0.0


def wasted(done: Iterable[Done]) -> float:
    """What the encoder computes for padding, over what it must; 0.08 is 8 %."""
    done = list(done)
    return sum(one.computed_flop for one in done) / sum(one.needed_flop for one in done) - 1


def layer_flop(lengths_ms: Sequence[int], *, padded: bool) -> float:
    """Of one encoder layer on a batch: matrices over its rows, attention within each item."""
    rows = [ms / ROW_MS for ms in lengths_ms]
    attended = [max(rows)] * len(rows) if padded else rows
    matrices = 2 * sum(rows) * (4 * WIDTH * WIDTH + 2 * WIDTH * INNER)
    return matrices + 4 * WIDTH * sum(n * n for n in attended)


def waste(done: Iterable[Done]) -> float:
    """Padding over real audio, each batch padded to its longest; 0.08 is 8 %."""
    done = list(done)
    return sum(one.padded_ms for one in done) / sum(one.real_ms for one in done) - 1


def drawn_ms(total_s: float, rng: random.Random) -> list[int]:
    """Segments until the time is filled."""
    lengths_ms: list[int] = []
    while sum(lengths_ms) < total_s * 1000:
        seconds = min(LONGEST_S, max(SHORTEST_S, rng.lognormvariate(MU, SIGMA)))
        lengths_ms.append(round(seconds * 1000))
    return lengths_ms


def played(spec: PoolSpec, requests: Sequence[Sequence[int]]) -> Done:
    """Requests of these segments, all at once, through scheduler and one replica to their end."""
    scheduler = Scheduler([spec], max_queue_s=float("inf"))
    scheduler.on_event(0, PoolSize(spec.name, 1))
    replica = Replica(spec, {str(i): tuple(ms) for i, ms in enumerate(requests)})
    for name, lengths_ms in replica.requests.items():
        replica.take(scheduler.on_event(0, Submit(name, dict(enumerate(lengths_ms)))))
    while replica.step(scheduler):
        pass
    return replica.done


@dataclass(slots=True)
class Replica:
    """One ASR replica on a made-up clock: as `Owner` and `Asr`, without thread and model."""

    spec: PoolSpec
    requests: dict[str, tuple[int, ...]]
    done: Done = field(default_factory=Done)
    _now_ms: float = 0.0
    _waiting: list[tuple[int, Chunk]] = field(default_factory=list)

    def take(self, actions: Sequence[Action]) -> None:
        """Puts what is ordered behind what waits."""
        for order in orders(actions):
            lengths_ms = self.requests[order.request]
            lengths = tuple(lengths_ms[i] * SAMPLES_PER_MS for i in order.segments)
            silence = np.broadcast_to(np.int16(0), sum(lengths))  # takes no memory
            self._waiting.append((order.order, Chunk(silence, lengths, NO_HINTS)))

    def step(self, scheduler: Scheduler) -> bool:
        """Reads all that may share a run, and reports it; false where nothing waits."""
        if not self._waiting:
            return False
        runner = ChunkRunner(self._count, engine="", replica="")
        spec = self.spec
        slack_ms = worthwhile_slack_ms(spec.overhead_ms, spec.speed)
        runner.allow(spec.batch_audio_ms, slack_ms=slack_ms)
        taken, left = [self._waiting[0]], list[tuple[int, Chunk]]()
        for number, chunk in self._waiting[1:]:
            together = runner.fits([other for _, other in taken], chunk)
            (taken if together else left).append((number, chunk))
        self._waiting = left
        n_before = self.done.n_batches
        results = runner.run([chunk for _, chunk in taken])
        padded_ms = sum(result.padded_ms for result in results)
        n_batches = self.done.n_batches - n_before
        busy_ms = n_batches * spec.overhead_ms + padded_ms / spec.speed
        self._now_ms += busy_ms
        self.done.padded_ms += padded_ms
        for (number, chunk), result in zip(taken, results, strict=True):
            self.done.real_ms += sum(chunk.lengths_ms)
            share = result.share
            report = Finished(
                number, result.padded_ms, busy_ms * share, share=share, n_batches=n_batches
            )
            self.take(scheduler.on_event(self._now_ms, report))
        return True

    def _count(self, batch: Sequence[Audio], hints: Hints) -> list[Recognition]:
        self.done.n_batches += 1
        lengths_ms = [len(audio) // SAMPLES_PER_MS for audio in batch]
        self.done.needed_flop += layer_flop(lengths_ms, padded=False)
        self.done.computed_flop += layer_flop(lengths_ms, padded=True)
        return [Recognition("")] * len(batch)
