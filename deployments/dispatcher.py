"""The cluster's one scheduler: a thin Ray shell round `core/scheduling.py`.

Routers submit the lengths of segments, wait for orders by long polling, and report. Audio never
passes through here. One replica; if it dies, routers submit what is left to its successor.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from ray import serve
from ray.serve.context import _get_global_client

from deployments.config import AutoscalingSettings, DispatcherSettings
from deployments.core.errors import Overloaded
from deployments.core.events import (
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
from deployments.core.planning import PoolSpec
from deployments.core.scheduling import Scheduler
from deployments.core.tally import Tally

logger = logging.getLogger("ray.serve")

LONG_POLL_S = 5.0
ROUND_TRIP_MS = 40.0  # report, order and 4 MB of audio, on loopback: benchmarks dispatch_on_ray
TICK_S = 0.1  # how often late chunks are looked for
COUNT_TIMEOUT_S = 10.0
RUNNING = "RUNNING"  # a state of a replica, as Serve names it
FORGET_AFTER_S = 20.0  # a router that has not polled for so long is gone


class _Mailbox:
    """Orders for one request that its router has not fetched yet."""

    def __init__(self) -> None:
        self.waiting: list[Order | GiveUp] = []
        self.arrived = asyncio.Event()
        self.seen_s = time.monotonic()


class Dispatcher:
    """One instance. `deployments` maps a stage or pool to the name of its Serve deployment.

    `beside` is called once, where this instance starts: what one process of the application must
    do beside its requests, in a thread of its own.
    """

    def __init__(
        self,
        pools: Sequence[PoolSpec],
        settings: DispatcherSettings,
        deployments: Mapping[str, str],
        autoscaling: AutoscalingSettings,
        beside: Callable[[], None] = lambda: None,
    ) -> None:
        # Order numbers must not meet those of an earlier instance whose chunks are under way.
        self._scheduler = Scheduler(
            pools,
            max_queue_s=settings.max_queue_s,
            first_order=time.time_ns(),
            round_trip_ms=ROUND_TRIP_MS,
        )
        self._pools = [pool.name for pool in pools]
        self._specs = pools
        self._autoscaling = autoscaling
        self._accepted_s = 0.0  # audio taken since this instance began
        self._settings = settings
        self._deployments = deployments
        self._tallies = {name: Tally() for name in self._pools}
        self._running: dict[str, int] = {}
        self._mailboxes: dict[str, _Mailbox] = {}
        self._watch: asyncio.Task[None] | None = None
        self._ticking: asyncio.Task[None] | None = None
        self._failures: dict[str, str] = {}  # of background tasks, until a turn goes well
        self._counted = asyncio.Event()  # once the replicas have been counted at all
        beside()

    async def submit(
        self, request: str, lengths_ms: dict[int, int], again: bool, coming_ms: int
    ) -> bool:
        """Takes the segments, or raises Overloaded; never where the request was taken before.

        Returns whether the request was known here: if not, what came before is lost with an
        earlier instance. `coming_ms` is the most that will still be submitted.
        """
        await self._ensure_watching()
        known = request in self._mailboxes
        self._mailboxes.setdefault(request, _Mailbox())
        self._do(Submit(request, lengths_ms, again, coming_ms))
        self._accepted_s += sum(lengths_ms.values()) / 1000
        return known

    async def orders(self, request: str) -> list[Order | GiveUp] | None:
        """New orders of the request, waiting for some; None if the request is not known here."""
        mailbox = self._mailboxes.get(request)
        if mailbox is None:
            return None
        mailbox.seen_s = time.monotonic()
        try:
            await asyncio.wait_for(mailbox.arrived.wait(), LONG_POLL_S)
        except TimeoutError:
            return []
        orders, mailbox.waiting = mailbox.waiting, []
        mailbox.arrived.clear()
        return orders

    async def finished(self, report: Finished) -> None:
        pool = self._scheduler.pool_of(report.order)
        if pool is not None:
            self._tallies[pool].add(report)
        self._do(report)

    async def lost(self, report: Lost) -> bool:
        """Whether the order was given here; if so its segments are placed again."""
        known = self._scheduler.knows(report.order)
        self._do(report)
        return known

    async def cancel(self, request: str) -> None:
        self._mailboxes.pop(request, None)
        self._do(Cancel(request))

    async def snapshot(self) -> dict[str, Any]:
        """Running replicas of every stage and pool, and the pools' load and costs."""
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
        }

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """What cluster/autoscaling.py decides from; Serve asks for it and carries it there."""
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
        """Feeds the scheduler and puts its orders into the mailboxes of their requests."""
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
            except Exception:  # the controller is being replaced: the old counts hold meanwhile
                logger.exception("The running replicas could not be counted.")
            self._counted.set()
            await asyncio.sleep(self._settings.poll_s)
            deadline_s = time.monotonic() - FORGET_AFTER_S
            for request in [r for r, m in self._mailboxes.items() if m.seen_s < deadline_s]:
                with self._survived("A request whose router has gone could not be ended."):
                    await self.cancel(request)

    @contextmanager
    def _survived(self, what: str) -> Iterator[None]:
        """A turn of a background task: what fails in it is logged once, and the next one comes."""
        try:
            yield
        except Exception as error:
            if self._failures.get(what) != repr(error):
                logger.exception(what)
            self._failures[what] = repr(error)
        else:
            self._failures.pop(what, None)

    async def _recount(self) -> None:
        app_name = serve.get_replica_context().app_name
        found = await asyncio.to_thread(running_replicas, app_name, self._deployments)
        self._running = {name: len(replicas) for name, replicas in found.items()}
        for pool in self._pools:
            replicas = found.get(pool, ())
            self._do(PoolSize(pool, len(replicas), replicas if all(replicas) else ()))


def running_replicas(app_name: str, deployments: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """The running replicas of each named deployment, as Serve's controller sees them.

    By their actors' ids, as `asr.own_name` has them; "" for each where Serve does not say.
    """
    try:
        return _by_actor(app_name, deployments)
    except (AttributeError, KeyError, TypeError):  # another Ray: its public status has counts
        logger.warning("Serve names no replicas: chunks go to pools.", exc_info=True)
        return _counted(app_name, deployments)


def _by_actor(app_name: str, deployments: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """What `serve.status` counts; the same call to the controller."""
    client: Any = _get_global_client()
    applications = client.get_serve_details()["applications"]
    found = applications[app_name]["deployments"] if app_name in applications else {}
    return {
        name: tuple(
            replica["actor_id"] or ""
            for replica in found[deployment]["replicas"]
            if replica["state"] == RUNNING
        )
        for name, deployment in deployments.items()
        if deployment in found
    }


def _counted(app_name: str, deployments: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    application = serve.status().applications.get(app_name)
    found = application.deployments if application else {}
    return {
        name: ("",) * sum(n for s, n in found[deployment].replica_states.items() if s == RUNNING)
        for name, deployment in deployments.items()
        if deployment in found
    }
