"""The Ray deployment around the scheduler in `core/scheduler/`.

Routers submit the lengths of segments, get orders by long polling, and report results. Audio never
passes through here. There is one replica. If it dies, Serve replaces it, and the routers submit
again the segments that have no answer yet.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ray import serve

from deployments.config import AutoscalingSettings, DispatcherSettings
from deployments.core.errors import Draining, Overloaded
from deployments.core.request_id import arrived_s
from deployments.core.scheduler.events import (
    Action,
    Cancel,
    Event,
    Finished,
    GiveUp,
    Lost,
    Order,
    PoolSize,
    Refuse,
    Submit,
    Tick,
)
from deployments.core.scheduler.planning import PoolSpec
from deployments.core.scheduler.scheduler import Scheduler
from deployments.replicas import check_names, running_replicas

logger = logging.getLogger("ray.serve")

LONG_POLL_S = 5.0
ROUND_TRIP_MS = 40.0  # report, order and 4 MB of audio, measured: benchmarks dispatch_on_ray
TICK_S = 0.1  # how often late chunks are looked for
COUNT_TIMEOUT_S = 10.0
DRAIN_RETRY_S = 10.0  # by then another service may have taken the place of this one
FORGET_AFTER_S = 20.0  # a router that has not polled for so long has died


class _Mailbox:
    """Orders of one request that its router has not fetched yet."""

    def __init__(self) -> None:
        self.waiting: list[Order | GiveUp] = []
        self.arrived = asyncio.Event()
        self.seen_s = time.monotonic()

    def take(self) -> list[Order | GiveUp]:
        orders, self.waiting = self.waiting, []
        self.arrived.clear()
        return orders


class Dispatcher:
    """One instance. `deployments` maps a stage or pool to the name of its Serve deployment.

    `beside` is called once when the instance starts. It begins a background task of which the
    application needs exactly one, in a thread of its own: sampling the GPUs. Raises RuntimeError
    where Serve does not tell the names of replicas.
    """

    def __init__(
        self,
        pools: Sequence[PoolSpec],
        settings: DispatcherSettings,
        deployments: Mapping[str, str],
        autoscaling: AutoscalingSettings,
        beside: Callable[[], None] = lambda: None,
    ) -> None:
        check_names()
        # Order numbers must differ from those of an earlier instance whose chunks are outstanding.
        self._scheduler = Scheduler(
            pools,
            max_queue_s=settings.max_queue_s,
            max_interactive_queue_s=settings.max_interactive_queue_s,
            first_order=time.time_ns(),
            round_trip_ms=ROUND_TRIP_MS,
        )
        self._pools = [pool.name for pool in pools]
        self._specs = pools
        self._autoscaling, self._settings = autoscaling, settings
        self._accepted_s = 0.0  # audio admitted since this instance started
        self._deployments = deployments
        self._tallies = {name: _Tally() for name in self._pools}
        self._running: dict[str, int] = {}
        self._mailboxes: dict[str, _Mailbox] = {}
        self._watch: asyncio.Task[None] | None = None
        self._ticking: asyncio.Task[None] | None = None
        self._drains_since_s = 0.0  # 0: the service has not been told to stop
        self._failures: dict[str, str] = {}  # of each background task, until it succeeds
        self._counted = asyncio.Event()  # set once the replicas have been counted
        beside()

    async def submit(
        self,
        request: str,
        lengths_ms: dict[int, int],
        again: bool,
        coming_ms: int,
        background: bool = False,
    ) -> tuple[bool, list[Order | GiveUp]]:
        """Takes the segments; returns whether the request was known here, and its new orders.

        If not, those submitted before are lost with an earlier instance. `coming_ms` is the most
        audio that may still be submitted. Raises Overloaded where the queue is too long, but never
        if `again` says that the request was admitted before. Raises Draining for a request that
        arrived after the service was told to stop.

        Orders are given once. Those in an answer that is lost on its way stay open here until an
        idle replica gets copies of them as late chunks, or until the request ends.
        """
        await self._ensure_watching()
        known = request in self._mailboxes
        drains = 0.0 if known or again else self._drains_since_s
        if drains and arrived_s(request) > drains:
            raise Draining(DRAIN_RETRY_S)
        mailbox = self._mailboxes.setdefault(request, _Mailbox())
        mailbox.seen_s = time.monotonic()
        self._do(Submit(request, lengths_ms, again, coming_ms, background=background))
        self._accepted_s += sum(lengths_ms.values()) / 1000
        return known, mailbox.take()

    async def orders(self, request: str) -> list[Order | GiveUp] | None:
        """New orders of the request, as soon as there are any; None if it is not known here."""
        mailbox = self._mailboxes.get(request)
        if mailbox is None:
            return None
        mailbox.seen_s = time.monotonic()
        try:
            await asyncio.wait_for(mailbox.arrived.wait(), LONG_POLL_S)
        except TimeoutError:
            return []
        return mailbox.take()

    async def finished(self, report: Finished) -> None:
        if (pool := self._scheduler.pool_of(report.order)) is not None:
            self._tallies[pool].add(report)
        self._do(report)

    async def lost(self, report: Lost) -> bool:
        """Takes a loss; returns whether this instance gave the order."""
        known = self._scheduler.knows(report.order)
        self._do(report)
        return known

    async def cancel(self, request: str, reports: Sequence[Finished] = ()) -> None:
        """Ends the request, after the reports of its last chunks."""
        for report in reports:
            await self.finished(report)
        self._mailboxes.pop(request, None)
        self._do(Cancel(request))

    async def drain(self, since_s: float) -> None:
        """From now on refuses requests that arrived after `since_s`, in seconds since 1970."""
        self._drains_since_s = since_s

    async def snapshot(self) -> dict[str, Any]:
        """The running replicas of every stage and pool, and what each pool does."""
        await self._ensure_watching()
        return {
            "running": dict(self._running),
            "pools": {
                name: figures
                | {"padding": self._tallies[name].padding}
                | {"ooms": self._tallies[name].n_out_of_memory}
                for name, figures in self._scheduler.snapshot().items()
            },
            "requests": len(self._mailboxes),
            "waiting_audio_s": self._scheduler.waiting_s,
            "queue_s": self._scheduler.queue_s(),
            "interactive_queue_s": self._scheduler.queue_s(interactive=True),
            "background_queue_s": self._scheduler.queue_s(background=True),
            "draining": self._drains_since_s > 0,
        }

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """The figures that `cluster/autoscaling.py` decides from; Serve carries them there."""
        pools = self._scheduler.snapshot()
        stats = {
            "backlog_audio_s": self._scheduler.backlog_s,
            "accepted_audio_s": self._accepted_s,
            "drain_s": self._autoscaling.drain_s,
            "give_back_after_s": self._autoscaling.give_back_after_s,
        }
        for spec in self._specs:
            deployment = self._deployments[spec.name]
            stats[f"speed:{deployment}"] = float(pools[spec.name]["full_speed"])
            stats[f"price_per_hour:{deployment}"] = spec.price_per_hour
            stats[f"start_s:{deployment}"] = spec.start_ms / 1000
        return stats

    def _do(self, event: Event) -> None:
        """Tells the scheduler, and puts its orders into the mailboxes of their requests."""
        for action in self._scheduler.on_event(time.monotonic() * 1000, event):
            self._deliver(action)

    def _deliver(self, action: Action) -> None:
        if isinstance(action, Refuse):
            self._mailboxes.pop(action.request, None)
            raise Overloaded(action.retry_after_s)
        mailbox = self._mailboxes.get(action.request)
        if mailbox is not None:
            mailbox.waiting.append(action)
            mailbox.arrived.set()

    async def _ensure_watching(self) -> None:
        if self._watch is None:
            self._watch = asyncio.create_task(self._keep_watching())
            self._ticking = asyncio.create_task(self._keep_ticking())
        await self._counted.wait()

    async def _keep_ticking(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            with self._survived("Late chunks could not be looked for."):
                self._do(Tick())

    async def _keep_watching(self) -> None:
        while True:
            try:
                await asyncio.wait_for(self._recount(), COUNT_TIMEOUT_S)
            except Exception:  # Ray replaces the controller: the last counts are kept meanwhile
                logger.exception("The running replicas could not be counted.")
            self._counted.set()
            await asyncio.sleep(self._settings.poll_s)
            deadline_s = time.monotonic() - FORGET_AFTER_S
            for request in [r for r, m in self._mailboxes.items() if m.seen_s < deadline_s]:
                with self._survived("A request whose router has gone could not be ended."):
                    await self.cancel(request)

    @contextmanager
    def _survived(self, what: str) -> Iterator[None]:
        """Logs an exception in a background task once, so that the task's next turn comes."""
        try:
            yield
        except Exception as error:
            if self._failures.get(what) != repr(error):
                logger.exception(what)
            self._failures[what] = repr(error)
        else:
            self._failures.pop(what, None)

    async def _recount(self) -> None:
        app = serve.get_replica_context().app_name
        found = await asyncio.to_thread(running_replicas, app, self._deployments)
        self._running = {name: len(replicas) for name, replicas in found.items()}
        for pool in self._pools:
            self._do(PoolSize(pool, found.get(pool, ())))


@dataclass(slots=True)
class _Tally:
    """What a pool's chunks cost since this dispatcher started; only shown, nothing is planned."""

    audio_ms: int = 0
    padded_ms: int = 0
    n_out_of_memory: int = 0  # batches that did not fit into memory and were halved

    def add(self, report: Finished) -> None:
        self.audio_ms += report.audio_ms
        self.padded_ms += report.padded_ms
        self.n_out_of_memory += report.n_out_of_memory

    @property
    def padding(self) -> float | None:
        """The part of the computed audio that was padding, 0..1; None before the first chunk."""
        if not self.padded_ms:
            return None
        return max(0.0, 1 - self.audio_ms / self.padded_ms)  # the parts of a batch are rounded
