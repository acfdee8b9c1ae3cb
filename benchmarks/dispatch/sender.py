"""A recording of noise sent through the service's own fan-out, with every chunk noted.

The sender stands in for the router: it runs `fan_out` over the same `HandleCalls`, with a recording
whose segments are known. Every chunk carries its int16 samples to the replica by value.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

import numpy as np

from benchmarks.dispatch.cards import CARDS
from deployments.core.scheduler.events import Lost
from deployments.core.segments import Answer, segment_audio
from deployments.core.types import (
    SAMPLE_RATE_HZ,
    SAMPLES_PER_MS,
    Audio,
    ChunkResult,
    Hints,
    Segment,
)
from deployments.engines.fake import fingerprint
from deployments.request.calls import HandleCalls
from deployments.request.fanout import fan_out

OUTSTANDING = 2  # chunks per replica where replicas pull


@dataclass(frozen=True, slots=True)
class Kill:
    """A process to kill while a recording is recognised."""

    pid: int
    at_s: float


@dataclass(frozen=True, slots=True)
class Sent:
    """A chunk that was answered: by which replica, when, and how long the GPU took.

    The times are monotonic seconds; in a `Run` they count from its start.
    """

    pool: str
    meant_for: str  # a replica; empty: any
    replica: str
    sent_s: float
    answered_s: float
    busy_s: float


@dataclass(frozen=True, slots=True)
class Run:
    """One recording: how long it took, which replicas did it, and when losses were noticed."""

    took_s: float
    segments: Mapping[tuple[str, str], int]  # by pool and replica
    chunks_lost_s: tuple[float, ...]  # after the start
    wrong: tuple[int, ...]  # segments that came twice, or with other samples than were sent
    chunks: tuple[Sent, ...]


class Watched(HandleCalls):
    """The router's calls, which also note when chunks are sent, answered and lost."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.lost_s: list[float] = []
        self.chunks: list[Sent] = []

    async def recognise(
        self, pool: str, replica: str, samples: Audio, lengths: Sequence[int], hints: Hints
    ) -> ChunkResult:
        sent_s = time.monotonic()
        result = await super().recognise(pool, replica, samples, lengths, hints)
        now_s = time.monotonic()
        self.chunks.append(
            Sent(pool, replica, result.replica, sent_s, now_s, result.busy_ms / 1000)
        )
        return result

    async def lost(self, report: Lost) -> bool:
        self.lost_s.append(time.monotonic())
        return await super().lost(report)


class Sender:
    """A deployment that sends recordings to the pools by the dispatcher, or lets replicas pull."""

    def __init__(self, calls: dict[str, Any], audio_s: int) -> None:
        self._calls = Watched(**calls)
        self._audio = noise(audio_s)

    async def replicas(self) -> dict[str, int]:
        """The running replicas of each pool, as the dispatcher counts them."""
        pools = (await self._calls.snapshot())["pools"]
        return {name: int(pool["replicas"]) for name, pool in pools.items()}

    async def recognise(
        self,
        lengths_ms: Sequence[int],
        prompt: str,
        *,
        kill: Kill | None = None,
        pull: bool = False,
    ) -> Run:
        """Recognises a recording of these segments, by the dispatcher or by a pull."""
        segments, audio = cut(self._audio, lengths_ms)
        hints = Hints(prompt=prompt)
        self._calls.lost_s.clear()
        self._calls.chunks.clear()
        if kill is not None:
            asyncio.get_running_loop().call_later(kill.at_s, os.kill, kill.pid, signal.SIGKILL)
        began_s = time.monotonic()
        found: Counter[int] = Counter()
        answers: dict[int, Answer] = {}
        answering = (
            _pulled(segments, audio, hints, self._calls, await self.replicas())
            if pull
            else fan_out(f"r{time.time_ns()}", at_once(segments), audio, hints, self._calls)
        )
        async for some in answering:
            found.update(some.keys())
            answers |= some
            took_s = time.monotonic() - began_s
        return Run(
            took_s,
            Counter((a.pool, a.replica) for a in answers.values()),
            tuple(at_s - began_s for at_s in self._calls.lost_s),
            tuple(s.index for s in segments if not _right(s, audio, found, answers)),
            tuple(
                replace(c, sent_s=c.sent_s - began_s, answered_s=c.answered_s - began_s)
                for c in self._calls.chunks
            ),
        )


def noise(audio_s: int) -> Audio:
    """A recording of noise, always the same."""
    rng = np.random.default_rng(0)
    audio: Audio = rng.integers(-3000, 3000, audio_s * SAMPLE_RATE_HZ, dtype=np.int16)
    return audio


def cut(audio: Audio, lengths_ms: Sequence[int]) -> tuple[list[Segment], Audio]:
    """Segments of these lengths one behind the other, and the part of the audio they cover."""
    ends_ms = list(accumulate(lengths_ms))
    spans = zip([0, *ends_ms[:-1]], ends_ms, strict=True)
    segments = [Segment(i, *span) for i, span in enumerate(spans)]
    return segments, audio[: ends_ms[-1] * SAMPLES_PER_MS]


async def at_once(segments: list[Segment]) -> AsyncGenerator[list[Segment]]:
    """All segments of a recording together, as if its VAD had taken no time."""
    yield segments


def _right(
    segment: Segment, audio: Audio, found: Mapping[int, int], answers: Mapping[int, Answer]
) -> bool:
    """Whether the segment was answered once, and from its own samples."""
    heard = answers[segment.index].recognition.text if segment.index in answers else ""
    return found[segment.index] == 1 and heard == fingerprint(segment_audio(audio, segment))


async def _pulled(
    segments: Sequence[Segment],
    audio: Audio,
    hints: Hints,
    calls: HandleCalls,
    replicas: Mapping[str, int],
) -> AsyncGenerator[dict[int, Answer]]:
    """Answers without a plan: a replica with room takes a full batch of the longest in the queue.

    Each replica has room for OUTSTANDING chunks at a time.
    """
    queue = sorted(segments, key=lambda s: s.n_ms)
    answers: asyncio.Queue[dict[int, Answer]] = asyncio.Queue()

    async def pull(pool: str, batch_ms: int) -> None:
        while queue:
            chunk = [queue.pop()]
            while queue and (len(chunk) + 1) * chunk[0].n_ms <= batch_ms:
                chunk.append(queue.pop())
            pieces = [segment_audio(audio, s) for s in chunk]
            lengths = [len(piece) for piece in pieces]
            result = await calls.recognise(pool, "", np.concatenate(pieces), lengths, hints)
            answers.put_nowait(
                {
                    s.index: Answer(recognition, pool=pool, replica=result.replica)
                    for s, recognition in zip(chunk, result.recognitions, strict=True)
                }
            )

    pulling = [
        asyncio.create_task(pull(name, round(gpu.batch_audio_s * 1000)))
        for _ in range(OUTSTANDING)
        for name, gpu in sorted(CARDS.items(), key=lambda card: -card[1].speed)
        for _ in range(replicas[name])
    ]
    left = len(segments)
    while left:
        some = await answers.get()
        left -= len(some)
        yield some
    await asyncio.gather(*pulling)
