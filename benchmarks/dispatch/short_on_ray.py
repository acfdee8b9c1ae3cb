"""Short requests beside a long file on real Ray: five fake nodes whose GPUs sleep.

The nodes run at a twelfth of their speed. The file is long enough to keep them busy during the
whole measurement.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from ray import serve

from benchmarks.dispatch.cards import CARDS, FLEET, STAGE_CPUS, config, prompt, wrong_priors
from benchmarks.dispatch.fleets import PRIOR_ERROR, in_ms, rate, segments_s
from benchmarks.dispatch.on_ray import warm_up_lengths_s
from benchmarks.dispatch.sender import at_once, cut, noise
from benchmarks.dispatch.short_traffic import P95, arrivals, fastest_chunk_ms
from benchmarks.dispatch.sleeping_cluster import sleeping_cluster
from benchmarks.results import Figures
from cluster.simulation.command import percentile
from deployments.app import stages
from deployments.core.segments import segment_audio
from deployments.core.types import Hints
from deployments.engines.fake import fingerprint
from deployments.request.calls import HandleCalls
from deployments.request.fanout import fan_out

SLOW_DOWN = 12.0  # gives four short requests a second: two cores can carry their messages
MEASURED_S = 45.0
LEAD_S = 3.0  # the file is in the queue so long before the first short request
FILE_S = 4 * 3600.0  # more than the fleet can do during the measurement
READY_S = 90.0
TIMEOUT_S = 300.0


class Traffic:
    """A deployment that stands in for the router and sends many recordings of noise at a time."""

    def __init__(self, calls: dict[str, Any], audio_s: int) -> None:
        self._calls = HandleCalls(**calls)
        self._audio = noise(audio_s)

    async def replicas(self) -> int:
        """The running replicas of all pools, as the dispatcher counts them."""
        pools = (await self._calls.snapshot())["pools"]
        return sum(int(pool["replicas"]) for pool in pools.values())

    async def play(
        self, shorts: Sequence[tuple[float, Sequence[int]]], told: str, beside: Sequence[int] = ()
    ) -> list[float]:
        """Latencies in seconds of recordings that arrive at their times, beside a file or not.

        The file is cancelled at the end. Raises ValueError where the file was done before the short
        requests, or where a segment did not come once and as it was sent.
        """
        file = asyncio.create_task(self._recognise(beside, told)) if beside else None
        await asyncio.sleep(LEAD_S if beside else 0)
        try:
            took_s = await asyncio.gather(*(self._at(*short, told) for short in shorts))
            if file is not None and file.done():
                raise ValueError("The file was done before the short requests.")
        finally:
            if file is not None:
                file.cancel()
                await asyncio.wait({file})
        return list(took_s)

    async def _at(self, at_s: float, lengths_ms: Sequence[int], told: str) -> float:
        await asyncio.sleep(at_s)
        return await self._recognise(lengths_ms, told)

    async def _recognise(self, lengths_ms: Sequence[int], told: str) -> float:
        segments, audio = cut(self._audio, lengths_ms)
        began_s = time.monotonic()
        heard: Counter[tuple[int, str]] = Counter()
        request = f"r{time.monotonic_ns()}-{len(segments)}"
        source = at_once(segments)
        async for some in fan_out(request, source, audio, Hints(prompt=told), self._calls):
            heard.update((i, answer.recognition.text) for i, answer in some.items())
        took_s = time.monotonic() - began_s
        if heard != Counter((s.index, fingerprint(segment_audio(audio, s))) for s in segments):
            raise ValueError("A segment did not come once and as it was sent.")
        return took_s


def on_ray(*, measured_s: float = MEASURED_S, seed: int = 0) -> Figures:
    """The figures, measured on a cluster that is started for them."""
    found = measure(measured_s=measured_s, seed=seed)
    return {
        "real_short_p95_ms": round(found.alone_ms, 1),
        "real_short_p95_beside_ms": round(found.beside_ms, 1),
        "real_short_chunk_of_fastest_ms": round(found.chunk_ms, 1),
        "real_short_p95_over_bar": round(found.over_bar, 2),
    }


def measure(*, measured_s: float = MEASURED_S, seed: int = 0) -> P95:
    """The percentiles of the same short requests without a file and beside one, on warm pools."""
    cards = tuple(CARDS[name] for name in FLEET)
    told = prompt(CARDS, slow_down=SLOW_DOWN)
    shorts = arrivals(rate(cards) / SLOW_DOWN, time_s=measured_s, seed=seed)
    file = in_ms(segments_s(FILE_S, random.Random(seed)))
    with sleeping_cluster():
        traffic = deployed()
        for lengths_s in warm_up_lengths_s():
            recording = [(0.0, in_ms(lengths_s))]
            traffic.play.remote(recording, told).result(timeout_s=TIMEOUT_S)
        alone_s, beside_s = (
            sorted(traffic.play.remote(shorts, told, beside).result(timeout_s=TIMEOUT_S))
            for beside in ((), file)
        )
    return P95(
        percentile(alone_s, 95) * 1000,
        percentile(beside_s, 95) * 1000,
        fastest_chunk_ms(cards, cards) * SLOW_DOWN,
    )


def deployed() -> Any:
    """The handle of `Traffic`, once all replicas of its pools are counted. Raises TimeoutError."""
    settings = config(wrong_priors(1, error=PRIOR_ERROR), slow_down=SLOW_DOWN)
    kind = serve.deployment(
        name="Traffic", max_ongoing_requests=4, ray_actor_options={"num_cpus": STAGE_CPUS}
    )
    application = kind(Traffic).bind(stages(settings), int(FILE_S) + 60)
    handle = serve.run(application, name="short", route_prefix=None)
    deadline_s = time.monotonic() + READY_S
    while handle.replicas.remote().result(timeout_s=READY_S) != len(FLEET):
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"The pools did not have {len(FLEET)} replicas within {READY_S} s.")
        time.sleep(0.2)
    return handle
