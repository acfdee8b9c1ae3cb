"""Five Ray nodes on one machine whose GPUs sleep: dispatcher, pools and fan-out of the service.

What runs is what serves: the deployments that `app.stages` binds, and `fan_out` over `HandleCalls`
in the place of the router's, with a recording whose segments are known. The int16 samples of every
chunk go to its replica by value. Nothing but the model is missing: a batch takes its time asleep.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

import numpy as np
import psutil
import ray
from ray import serve
from ray.cluster_utils import Cluster

from benchmarks.dispatch_fleets import A10G, A100, L4, T4, Gpu
from benchmarks.environment import environment
from deployments.app import stages
from deployments.calls import HandleCalls
from deployments.config import AppConfig
from deployments.core.events import Lost
from deployments.core.segments import Answer, segment_audio
from deployments.core.types import SAMPLES_PER_MS, Audio, ChunkResult, Hints, Segment
from deployments.engines.fake import fingerprint
from deployments.fanout import fan_out

CARDS: dict[str, Gpu] = {"T4": T4, "L4": L4, "A10G": A10G, "A100": A100}
KINDS = {name: i + 1 for i, name in enumerate(CARDS)}  # `num_threads` tells the engine its card
STAGE_CPUS = 1.5  # more than a GPU node has, so that all stages run on the head
OUTSTANDING = 2  # chunks per replica of a pull
READY_S = 90.0
SETTLED_S = 12.0  # a dead replica's place is kept empty for 10 s (core/pools.py)


@dataclass(frozen=True, slots=True)
class Kill:
    """A process to be killed while a recording is recognised."""

    pid: int
    at_s: float


@dataclass(frozen=True, slots=True)
class Run:
    """One recording: how long it took, who did it, and when losses were noticed."""

    took_s: float
    segments: Mapping[tuple[str, str], int]  # by pool and replica
    chunks_lost_s: tuple[float, ...]  # after the start
    wrong: tuple[int, ...]  # segments that came twice, or not as they were sent
    chunks: tuple[Sent, ...]  # times after the start


@dataclass(frozen=True, slots=True)
class Sent:
    """A chunk that was answered: by whom, when (monotonic seconds), and its time on the GPU."""

    pool: str
    meant_for: str  # a replica; empty: any
    replica: str
    sent_s: float
    answered_s: float
    busy_s: float


class Watched(HandleCalls):
    """Notes when chunks are sent, answered and lost."""

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
    """Stands where the router stands, with a recording of noise in memory."""

    def __init__(self, calls: dict[str, Any], audio_s: int) -> None:
        self._calls = Watched(**calls)
        rng = np.random.default_rng(0)
        self._audio: Audio = rng.integers(-3000, 3000, audio_s * 16_000, dtype=np.int16)

    async def replicas(self) -> dict[str, int]:
        """Running replicas of each pool, as the dispatcher counts them."""
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
        """A recording of these segments, by the dispatcher or by a pull."""
        ends_ms = list(accumulate(lengths_ms))
        starts_ms = [0, *ends_ms[:-1]]
        segments = [
            Segment(i, *span) for i, span in enumerate(zip(starts_ms, ends_ms, strict=True))
        ]
        audio = self._audio[: ends_ms[-1] * SAMPLES_PER_MS]
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
            else fan_out(f"r{time.time_ns()}", _at_once(segments), audio, hints, self._calls)
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


def _right(
    segment: Segment, audio: Audio, found: Mapping[int, int], answers: Mapping[int, Answer]
) -> bool:
    """Whether the segment was answered once, from its own samples."""
    heard = answers[segment.index].recognition.text if segment.index in answers else ""
    return found[segment.index] == 1 and heard == fingerprint(segment_audio(audio, segment))


async def _at_once(segments: list[Segment]) -> AsyncGenerator[list[Segment]]:
    yield segments


async def _pulled(
    segments: Sequence[Segment],
    audio: Audio,
    hints: Hints,
    calls: HandleCalls,
    replicas: Mapping[str, int],
) -> AsyncGenerator[dict[int, Answer]]:
    """What no plan does: whoever has a free place takes a full batch of the longest that wait."""
    queue = sorted(segments, key=lambda s: s.n_ms)
    answers: asyncio.Queue[dict[int, Answer]] = asyncio.Queue()

    async def place(pool: str, batch_ms: int) -> None:
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

    places = [
        asyncio.create_task(place(name, round(gpu.batch_audio_s * 1000)))
        for _ in range(OUTSTANDING)
        for name, gpu in sorted(CARDS.items(), key=lambda card: -card[1].speed)
        for _ in range(replicas[name])
    ]
    left = len(segments)
    while left:
        some = await answers.get()
        left -= len(some)
        yield some
    await asyncio.gather(*places)


def prompt(cards: Mapping[str, Gpu], *, slow_down: float = 1.0) -> str:
    """How long the sleeping GPUs take, as FakeTimedAsr reads it."""
    return json.dumps(
        {
            KINDS[name]: [gpu.overhead_s * 1000 * slow_down, gpu.speed / slow_down]
            for name, gpu in cards.items()
        }
    )


def wrong_priors(seed: int, *, error: float) -> dict[str, tuple[float, float]]:
    """For each card what its speed and its overhead are multiplied with."""
    rng = random.Random(seed)
    return {
        n: (rng.choice((1 - error, 1 + error)), rng.choice((1 - error, 1 + error))) for n in CARDS
    }


def config(
    priors: Mapping[str, tuple[float, float]], *, slow_down: float = 1.0, n_t4: int = 2
) -> AppConfig:
    """A pool for every card, `n_t4` replicas in that of the T4, the others of one."""
    pools = {
        name: {
            "num_cpus": 0.4,
            "num_threads": KINDS[name],
            "node_labels": {"card": name},
            "min_replicas": n_t4 if name == "T4" else 1,
            "max_replicas": 2 if name == "T4" else 1,
            "batch_audio_s": gpu.batch_audio_s,
            "speed": gpu.speed * priors[name][0] / slow_down,
            "overhead_ms": gpu.overhead_s * 1000 * priors[name][1] * slow_down,
        }
        for name, gpu in CARDS.items()
    }
    models = {"vad": "fake:vad", "asr": "fake:timed", "punctuation": None}
    return AppConfig.model_validate(
        {
            "models": models,
            "dtype": "fp32",
            "pools": pools,
            "vad": {"num_cpus": STAGE_CPUS},
            "dispatcher": {"num_cpus": STAGE_CPUS, "poll_s": 0.5},
        }
    )


class Sleeping:
    """The cluster of five nodes, and what is deployed on it."""

    def __init__(self, cluster: Any, nodes: dict[str, Any]) -> None:
        self._cluster, self._nodes = cluster, nodes
        self._sender: Any = None

    def deploy(self, settings: AppConfig, *, audio_s: int) -> None:
        """Starts the application anew; returns once all replicas are counted."""
        sender = serve.deployment(
            name="Sender",
            max_ongoing_requests=4,
            ray_actor_options={"num_cpus": STAGE_CPUS},
        )
        assert settings.pools != "auto"
        wanted = {name: pool.min_replicas for name, pool in settings.pools.items()}
        application = sender(Sender).bind(stages(settings), audio_s)
        self._sender = serve.run(application, name="sleeping", route_prefix=None)
        self.wait_for(wanted)

    def wait_for(self, wanted: Mapping[str, int]) -> None:
        """Until the dispatcher counts so many replicas. Raises TimeoutError."""
        deadline_s = time.monotonic() + READY_S
        while self._sender.replicas.remote().result(timeout_s=READY_S) != wanted:
            if time.monotonic() > deadline_s:
                raise TimeoutError(f"The pools never were {wanted}.")
            time.sleep(0.2)

    def start(self, *arguments: Any, **more: Any) -> Any:
        """`Sender.recognise`, under way: its response."""
        return self._sender.recognise.remote(*arguments, **more)

    def recognise(self, *arguments: Any, **more: Any) -> Run:
        """`Sender.recognise`, done."""
        run: Run = self.start(*arguments, **more).result(timeout_s=300)
        return run

    def replica_pids(self, pool: str) -> list[int]:
        """Of the processes that are replicas of the pool."""
        title = f"ray::ServeReplica:sleeping:Asr-{pool}"
        return [
            process.pid
            for process in psutil.Process().children(recursive=True)
            if process.status() != psutil.STATUS_ZOMBIE and title in " ".join(process.cmdline())
        ]

    def wait_until_replaced(self, pool: str, pid: int) -> None:
        """Until Serve has started another replica for the one that died. Raises TimeoutError."""
        deadline_s = time.monotonic() + READY_S
        n_replicas = self._sender.replicas.remote().result(timeout_s=READY_S)[pool]
        while pid in self.replica_pids(pool) or len(self.replica_pids(pool)) < n_replicas:
            if time.monotonic() > deadline_s:
                raise TimeoutError(f"Nobody replaced the replica {pid} of {pool}.")
            time.sleep(0.2)
        time.sleep(SETTLED_S)

    def kill_node(self, card: str) -> None:
        """As if its power failed."""
        self._cluster.remove_node(self._nodes[card], allow_graceful=False)


@contextmanager
def sleeping_cluster() -> Iterator[Sleeping]:
    """A head and a node for every card, in Ray's processes of their own."""
    with environment({"RAY_USAGE_STATS_ENABLED": "0", "RAY_SERVE_CONTROL_LOOP_INTERVAL_S": "0.5"}):
        yield from _started()


def _started() -> Iterator[Sleeping]:
    cluster = Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": 8,
            "include_dashboard": False,
            "labels": {"card": "none"},
            "_system_config": {
                "health_check_initial_delay_ms": 0,
                "health_check_period_ms": 500,
                "health_check_failure_threshold": 4,
            },
        },
    )
    try:
        nodes = {name: cluster.add_node(num_cpus=1, labels={"card": name}) for name in CARDS}
        ray.init(address=cluster.address, log_to_driver=False)
        serve.start(proxy_location="Disabled")
        yield Sleeping(cluster, nodes)
    finally:
        serve.shutdown()  # type: ignore[no-untyped-call]
        ray.shutdown()
        cluster.shutdown()  # type: ignore[no-untyped-call]
