"""The graph in one process without Ray: real pipeline and scheduler, engines that a test chooses.

`InProcessCalls` stands for Serve. Replicas answer in random order and may answer twice, and calls
by name reach the named replica. A replica may die with all its chunks, and the dispatcher may
restart and forget everything. All events are drawn from a seed, so that a failing case can be run
again.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np

from benchmarks.material.recordings import wav_bytes
from deployments.core import types
from deployments.core.chunks import Chunk, ChunkRunner
from deployments.core.scheduler.events import (
    Cancel,
    Event,
    Finished,
    GiveUp,
    Lost,
    Order,
    PoolSize,
    Submit,
    Tick,
)
from deployments.core.scheduler.planning import PoolSpec
from deployments.core.scheduler.scheduler import Scheduler
from deployments.core.types import (
    Audio,
    ChunkResult,
    Delta,
    Done,
    Hints,
    PunctuationStep,
    PunctuationTask,
    Recognition,
    Span,
    TranscribeOptions,
    Transcript,
    Upload,
)
from deployments.engines.families import asr_info
from deployments.engines.protocols import EngineSettings
from deployments.request.calls import ReplicaDied
from deployments.request.plan import RouterPlan
from deployments.request.router import Pipeline

PLAN = RouterPlan(
    engine=asr_info("paraformer", EngineSettings(name="tiny")),
    languages=("zh",),
    aliases=("whisper-1", "gpt-*"),
    punctuate=True,
    pools={},
    notes=(),
    max_held_audio_s=86_400.0,
    max_audio_s=3600.0,
    max_prompt_chars=100,
    max_hotwords=3,
    decode_threads=1,
    decode_timeout_s=60.0,
    request_timeout_s=60.0,
)
TEXT_ONLY = replace(
    PLAN,
    engine=asr_info("whisper-onnx", EngineSettings(name="whisper-small")),
    languages=("zh", "en"),
    punctuate=False,
)
TURN_MS = (0.0, 1.0, 10.0, 300.0)  # time that may pass while other tasks have their turn
ONE_REPLICA = {"only": (1, PoolSpec("only", 1, 10.0, 0.0, 1, 0.0))}  # one segment at a time


@dataclass(frozen=True)
class Misfortune:
    """How often things go wrong, as probabilities."""

    dies: float = 0.0  # a replica, with all its chunks; never twice with the same segment
    dies_with: int = -1  # length in samples of a segment that kills every replica
    answers_twice: float = 0.0
    dispatcher_restarts: float = 0.0


_Waiting: TypeAlias = tuple[Chunk, asyncio.Future[ChunkResult | None]]  # None: its replica died


@dataclass
class InProcessCalls:
    """The protocol `Calls` of `deployments.request.calls`, over plain objects."""

    detect_spans: Callable[[Audio], list[Span]]
    transcribe: Callable[[Sequence[Audio], Hints], list[Recognition]]
    punctuate_batch: Callable[[Sequence[PunctuationTask]], list[PunctuationStep]]
    pools: Mapping[str, tuple[int, PoolSpec]]  # name -> (replicas, spec)
    rng: random.Random = field(default_factory=lambda: random.Random(0))
    misfortune: Misfortune = field(default_factory=Misfortune)

    def __post_init__(self) -> None:
        self.n_chunks = self.n_deaths = self.n_restarts = self.cancelled = self.largest_batch = 0
        self.n_reports = self.n_named = 0
        self._now_ms = 0.0
        self._replicas = {
            name: [f"{name}#{i}" for i in range(n)] for name, (n, _) in self.pools.items()
        }
        self._queues: dict[str, list[_Waiting]] = {}  # by replica
        self._died_with: set[bytes] = set()
        self._first_order = 1
        self._restart()

    def _restart(self) -> None:
        specs = [spec for _, spec in self.pools.values()]
        self._scheduler = Scheduler(specs, max_queue_s=1e9, first_order=self._first_order)
        self._first_order += 1_000_000
        self._mail: dict[str, list[Order | GiveUp]] = {}
        self._look_round()

    def _look_round(self) -> None:
        """Counts the replicas and ticks, as a dispatcher does from time to time."""
        for name, replicas in self._replicas.items():
            self._do(PoolSize(name, tuple(replicas)))
        self._do(Tick())

    def _perhaps_restart(self) -> None:
        if self.rng.random() < self.misfortune.dispatcher_restarts:
            self.n_restarts += 1
            self._restart()

    def _do(self, event: Event) -> None:
        for action in self._scheduler.on_event(self._now_ms, event):
            assert isinstance(action, Order | GiveUp)
            if action.request in self._mail:
                self._mail[action.request].append(action)

    async def _some_time(self) -> None:
        for _ in range(self.rng.randrange(8)):
            await self._turn()

    async def _turn(self) -> None:
        self._now_ms += self.rng.choice(TURN_MS)
        await asyncio.sleep(0)

    async def detect(self, audio: Audio) -> AsyncGenerator[list[Span]]:
        """The spans in groups of any size, after any pauses. Some groups are empty."""
        spans = self.detect_spans(audio)
        while spans:
            await self._some_time()
            n_now = self.rng.randrange(5)
            yield spans[:n_now]
            spans = spans[n_now:]

    async def punctuate(self, task: PunctuationTask) -> PunctuationStep:
        return self.punctuate_batch([task])[0]

    async def recognise(
        self, pool: str, replica: str, samples: Audio, lengths: Sequence[int], hints: Hints
    ) -> ChunkResult:
        self.n_chunks += 1
        await self._some_time()
        living = self._replicas[pool]
        self.n_named += replica in living
        at = replica if replica in living else self.rng.choice(living)
        answer: asyncio.Future[ChunkResult | None] = asyncio.get_running_loop().create_future()
        self._queues.setdefault(at, []).append((Chunk(samples, tuple(lengths), hints), answer))
        if self._is_killed(at, lengths):
            self._replace(pool, at)
        await self._some_time()
        while not answer.done():  # the first turn may be another chunk's
            self._run_waiting(pool, at)
        result = await answer
        if result is None:
            raise ReplicaDied("killed by the test", at)
        return result

    def _is_killed(self, replica: str, lengths: Sequence[int]) -> bool:
        if self.misfortune.dies_with in lengths:
            return True
        contents = {item.tobytes() for chunk, _ in self._queues[replica] for item in chunk.items}
        if contents & self._died_with or self.rng.random() >= self.misfortune.dies:
            return False
        self._died_with |= contents
        return True

    def _replace(self, pool: str, replica: str) -> None:
        """The replica dies with its queue, and another comes with a name of its own."""
        self.n_deaths += 1
        n_names = self.pools[pool][0] + self.n_deaths
        self._replicas[pool].remove(replica)
        self._replicas[pool].append(f"{pool}#{n_names}")
        for _, answer in self._queues.pop(replica):
            if not answer.done():
                answer.set_result(None)

    def _run_waiting(self, pool: str, replica: str) -> None:
        """The replica runs the first chunk of its queue and every one that fits beside it."""
        runner = ChunkRunner(self.transcribe, engine="test", replica=replica)
        runner.budget_ms = self.pools[pool][1].batch_audio_ms
        taken: list[_Waiting] = []
        left: list[_Waiting] = []
        for chunk, answer in self._queues[replica]:
            fits = not taken or runner.fits([c for c, _ in taken], chunk)
            (taken if fits else left).append((chunk, answer))
        self._queues[replica] = left
        results = runner.run([chunk for chunk, _ in taken])
        self.largest_batch = max(self.largest_batch, sum(len(c.lengths) for c, _ in taken))
        for (_, answer), result in zip(taken, results, strict=True):
            if not answer.done():
                answer.set_result(result)

    async def submit(
        self,
        request: str,
        lengths_ms: Mapping[int, int],
        *,
        again: bool,
        coming_ms: int,
        background: bool,
    ) -> tuple[bool, list[Order | GiveUp]]:
        await self._some_time()
        self._perhaps_restart()
        known = request in self._mail
        self._mail.setdefault(request, [])
        event = Submit(request, dict(lengths_ms), again, coming_ms, background=background)
        self._do(event)
        return known, self._take_mail(request)

    async def orders(self, request: str) -> list[Order | GiveUp] | None:
        await self._some_time()
        self._perhaps_restart()
        if request not in self._mail:
            return None
        while not self._mail[request]:
            await self._turn()
            self._look_round()
            if request not in self._mail:
                return None
        return self._take_mail(request)

    def _take_mail(self, request: str) -> list[Order | GiveUp]:
        orders, self._mail[request] = self._mail[request], []
        twice = [
            order
            for order in orders
            if isinstance(order, Order) and self.rng.random() < self.misfortune.answers_twice
        ]
        return orders + twice

    async def finished(self, report: Finished) -> None:
        await self._some_time()
        self.n_reports += 1
        self._do(report)

    async def lost(self, report: Lost) -> bool:
        known = self._scheduler.knows(report.order)
        self._do(report)
        return known

    async def cancel(self, request: str, reports: Sequence[Finished]) -> None:
        self.cancelled += 1
        for report in reports:
            self.n_reports += 1
            self._do(report)
        self._mail.pop(request, None)
        self._do(Cancel(request))


def echo(batch: Sequence[Audio], hints: Hints) -> list[Recognition]:
    """An engine whose texts are the lengths of the segments, in samples."""
    return [Recognition(f"{len(item)}") for item in batch]


def upload(audio: Audio) -> Upload:
    """The samples as a client would send them."""
    return np.frombuffer(wav_bytes(audio), np.uint8)


async def events_of(
    calls: InProcessCalls, audio: Audio, options: TranscribeOptions, plan: RouterPlan
) -> list[types.StreamEvent]:
    return [event async for event in Pipeline(plan, calls).run(upload(audio), options)]


def run(
    calls: InProcessCalls,
    audio: Audio,
    options: TranscribeOptions | None = None,
    plan: RouterPlan = PLAN,
) -> tuple[Transcript, str]:
    """The transcript, and the deltas joined."""
    events = asyncio.run(events_of(calls, audio, options or TranscribeOptions(), plan))
    assert isinstance(events[-1], Done)
    return events[-1].transcript, "".join(e.text for e in events if isinstance(e, Delta))
