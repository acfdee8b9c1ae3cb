"""`padding`: how much padding the batches of a replica contain.

The real scheduler sends chunks to one replica. Its real runner merges the chunks in its queue and
packs them into batches. Only the clock and the engine are simulated.

- `padding_...`: padding divided by real audio. A batch counts as its number of segments times the
  longest, as it does in budgets.
- `wasted_...`: a GPU's work on padding, divided by the work that is needed. Layers see only the
  rows of real audio (`engines/packed.py`); attention is padded to the longest segment.
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
from deployments.core.scheduler.events import Action, Finished, PoolSize, Submit
from deployments.core.scheduler.planning import PoolSpec
from deployments.core.scheduler.scheduler import Scheduler, orders
from deployments.core.types import SAMPLES_PER_MS, Audio, Hints, Recognition

# Lengths of segments in seconds: log-normal with a median of 6.7 s, cut to 1..30 s.
MU, SIGMA, SHORTEST_S, LONGEST_S = 1.9, 0.7, 1.0, 30.0
CONCURRENT = (1, 8, 64)  # short requests at once
POOL, NO_HINTS = "gpu", Hints()
REPLICA = "gpu#0"
ROW_MS = 60  # milliseconds of audio in a row of the encoder
# Widths in the encoder of Paraformer-large: of a row, and inside the feed-forward part.
WIDTH, INNER = 512, 2048


def run(
    batch_audio_s: Annotated[
        float, typer.Option(help="Most seconds of audio in a batch, padding included.")
    ] = 600.0,
    speed: Annotated[float, typer.Option(help="Audio seconds a second of the replica.")] = 1000.0,
    overhead_ms: Annotated[float, typer.Option(help="Time of a batch beside its audio.")] = 20.0,
    short_s: Annotated[float, typer.Option(help="Seconds of speech in a short request.")] = 20.0,
    trials: Annotated[int, typer.Option(help="Random draws of each case.")] = 20,
) -> Figures:
    """The padding for an hour of speech, and for 1, 8 and 64 short requests at once."""
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
    """The work that a replica did for the requests."""

    real_ms: int = 0  # audio without padding
    padded_ms: int = 0
    n_batches: int = 0
    needed_flop: float = 0.0  # of one encoder layer, without padding
    computed_flop: float = 0.0  # of one encoder layer, with padding


def wasted(done: Iterable[Done]) -> float:
    """The encoder's work on padding, divided by the work that is needed; 0.08 is 8 %."""
    done = list(done)
    return sum(one.computed_flop for one in done) / sum(one.needed_flop for one in done) - 1


def layer_flop(lengths_ms: Sequence[int], *, padded: bool) -> float:
    """The operations of one encoder layer on a batch; `padded`: with padding in the attention.

    Matrix products see the rows of real audio; attention is within each item.
    """
    rows = [ms / ROW_MS for ms in lengths_ms]
    attended = [max(rows)] * len(rows) if padded else rows
    matrices = 2 * sum(rows) * (4 * WIDTH * WIDTH + 2 * WIDTH * INNER)
    return matrices + 4 * WIDTH * sum(n * n for n in attended)


def waste(done: Iterable[Done]) -> float:
    """Padding divided by real audio, each batch padded to its longest segment; 0.08 is 8 %."""
    done = list(done)
    return sum(one.padded_ms for one in done) / sum(one.real_ms for one in done) - 1


def drawn_ms(total_s: float, rng: random.Random) -> list[int]:
    """Lengths of random segments that last `total_s` or a little more together."""
    lengths_ms: list[int] = []
    while sum(lengths_ms) < total_s * 1000:
        seconds = min(LONGEST_S, max(SHORTEST_S, rng.lognormvariate(MU, SIGMA)))
        lengths_ms.append(round(seconds * 1000))
    return lengths_ms


def played(spec: PoolSpec, requests: Sequence[Sequence[int]]) -> Done:
    """The work of one replica on requests of these segments, which all arrive at once."""
    scheduler = Scheduler([spec], max_queue_s=float("inf"))
    scheduler.on_event(0, PoolSize(spec.name, (REPLICA,)))
    replica = Replica(spec, {str(i): tuple(ms) for i, ms in enumerate(requests)})
    for name, lengths_ms in replica.requests.items():
        replica.enqueue(scheduler.on_event(0, Submit(name, dict(enumerate(lengths_ms)))))
    while replica.step(scheduler):
        pass
    return replica.done


@dataclass(slots=True)
class Replica:
    """An ASR replica on a simulated clock: `Owner` and `Asr` without thread and model."""

    spec: PoolSpec
    requests: dict[str, tuple[int, ...]]
    done: Done = field(default_factory=Done)
    _now_ms: float = 0.0
    _waiting: list[tuple[int, Chunk]] = field(default_factory=list)

    def enqueue(self, actions: Sequence[Action]) -> None:
        """Puts the chunks of the orders at the end of the replica's queue."""
        for order in orders(actions):
            lengths_ms = self.requests[order.request]
            lengths = tuple(lengths_ms[i] * SAMPLES_PER_MS for i in order.segments)
            # One zero, broadcast: an array of this length would take memory.
            silence = np.broadcast_to(np.int16(0), sum(lengths))
            self._waiting.append((order.order, Chunk(silence, lengths, NO_HINTS)))

    def step(self, scheduler: Scheduler) -> bool:
        """Reads the chunks that may share a run, and reports them; false if the queue is empty."""
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
            report = Finished(number, result.padded_ms, busy_ms * share, REPLICA, share, n_batches)
            self.enqueue(scheduler.on_event(self._now_ms, report))
        return True

    def _count(self, batch: Sequence[Audio], hints: Hints) -> list[Recognition]:
        self.done.n_batches += 1
        lengths_ms = [len(audio) // SAMPLES_PER_MS for audio in batch]
        self.done.needed_flop += layer_flop(lengths_ms, padded=False)
        self.done.computed_flop += layer_flop(lengths_ms, padded=True)
        return [Recognition("")] * len(batch)
