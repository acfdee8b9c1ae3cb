"""The cluster's one scheduler, as a state machine without I/O.

    on_event(now_ms, event) -> list[Action]

Routers submit the lengths of a request's segments. They get orders "these segments to that
replica", report how each order went, and are told which segments are given up. Production
(`Dispatcher`), the simulator and the tests drive this same code; the clock is an argument.

Interactive requests go first, in order of arrival. The others share the replicas: the request that
was sent least goes next. Those of jobs go last (`background`). While much waits, every replica with
room gets a full chunk. Once little waits, the rest is planned so that all replicas finish together
(`planning.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from deployments.core.scheduler.backlog import Request
from deployments.core.scheduler.copying import send_copies
from deployments.core.scheduler.events import (
    Action,
    Cancel,
    Event,
    Finished,
    Lost,
    Order,
    PoolSize,
    Refuse,
    Submit,
    Tick,
)
from deployments.core.scheduler.ledger import Ledger
from deployments.core.scheduler.losses import lose
from deployments.core.scheduler.placing import Placing
from deployments.core.scheduler.planning import PoolSpec
from deployments.core.scheduler.pools import PoolState

INTERACTIVE_MS = 60_000  # a request with less speech than this is one that somebody waits for


class Scheduler:
    """One instance for each cluster; not thread-safe.

    `max_queue_s` is the waiting time that is promised: requests that would wait longer are
    refused. `max_interactive_queue_s` is the promise to interactive requests, which wait for each
    other and for what replicas have, and not for the rest; None: the same. `round_trip_ms` is how
    long a replica is idle between its answer and its next chunk.
    """

    def __init__(
        self,
        pools: Sequence[PoolSpec],
        *,
        max_queue_s: float,
        max_interactive_queue_s: float | None = None,
        first_order: int = 1,
        round_trip_ms: float = 0.0,
    ) -> None:
        self._pools = {spec.name: PoolState(spec) for spec in pools}
        self._ledger = Ledger(self._pools, first_order=first_order)
        self._placing = Placing(self._ledger, round_trip_ms=round_trip_ms)
        self._round_trip_ms = round_trip_ms
        interactive_s = max_queue_s if max_interactive_queue_s is None else max_interactive_queue_s
        self._promised_s = {False: max_queue_s, True: interactive_s}  # by "is interactive"
        self._n_requests = 0

    def on_event(self, now_ms: float, event: Event) -> list[Action]:
        """What is to be done now. Reports of orders that are closed already are ignored."""
        actions: list[Action] = []
        match event:
            case PoolSize(pool, replicas):
                if self._pools[pool].set_replicas(now_ms, replicas):
                    self._ledger.version += 1
            case Submit():
                interactive = _is_interactive(event)
                too_long_s = self.queue_s(interactive=interactive) - self._promised_s[interactive]
                if too_long_s > 0 and not (event.again or event.background):
                    return [Refuse(event.request, max(1.0, too_long_s))]
                self._add(event)
            case Finished():
                self._ledger.finish(now_ms, event)
            case Lost():
                actions += lose(now_ms, self._ledger, event)
            case Cancel(request):
                self._ledger.drop(now_ms, request)
            case Tick():
                pass
        actions += self._placing.dispatch(now_ms)
        if isinstance(event, Finished | Tick):
            actions += send_copies(
                now_ms,
                self._ledger,
                round_trip_ms=self._round_trip_ms,
                also_late=isinstance(event, Tick),
            )
        return actions

    def knows(self, order: int) -> bool:
        """Whether this scheduler gave the order and was not told yet how it went."""
        return order in self._ledger.orders or order in self._ledger.swept

    def pool_of(self, order: int) -> str | None:
        """The pool of an open order; None if it is closed or was not given here."""
        sent = self._ledger.orders.get(order)
        return None if sent is None else sent.order.pool

    def queue_s(self, *, interactive: bool = False, background: bool = False) -> float:
        """How long all pools together need for what stands before a new request of this kind.

        That is what waits or is announced of requests that go first, and all that is outstanding.
        """
        usable = self._ledger.usable()
        before = [
            request
            for request in self._ledger.requests.values()
            if (request.interactive or not interactive) and (background or not request.background)
        ]
        waiting_ms = sum(request.waiting_ms for request in before)
        coming_ms = sum(request.coming_ms for request in before)
        outstanding_ms = sum(pool.work_ms for pool in usable)
        n_replicas = sum(max(1, pool.n_replicas) for pool in usable)
        rate = sum(pool.total_rate or pool.rate for pool in usable)
        if not usable:
            return 0.0
        return (waiting_ms + coming_ms) / 1000 / rate + outstanding_ms / 1000 / n_replicas

    def snapshot(self) -> dict[str, dict[str, float | bool]]:
        """For each pool: its replicas, its outstanding work and what was learned of its speed.

        `backlog_audio_s` is the audio of its outstanding orders. `outstanding_audio_s` is the same
        with the padding, as if each chunk were one batch.
        """
        outstanding_ms = self._outstanding_ms()
        return {
            name: {
                "replicas": pool.n_replicas,
                "can_start": pool.spec.can_start,
                "outstanding_chunks": len(pool.outstanding),
                "outstanding_audio_s": pool.queued_ms / 1000,
                "backlog_audio_s": outstanding_ms[name] / 1000,
                "slowdown": pool.full_chunk_ms
                / (pool.spec.overhead_ms + pool.spec.batch_audio_ms / pool.spec.speed),
                "overhead_ms": pool.speed.overhead_ms,
                "speed": 1 / pool.speed.slope,
                "full_speed": pool.rate,
            }
            for name, pool in self._pools.items()
        }

    @property
    def waiting_s(self) -> float:
        """Audio seconds that wait for a replica."""
        return self._ledger.waiting_ms / 1000

    @property
    def backlog_s(self) -> float:
        """Audio seconds that wait or are outstanding."""
        return (self._ledger.waiting_ms + sum(self._outstanding_ms().values())) / 1000

    def _outstanding_ms(self) -> dict[str, int]:
        """The audio of each pool's open orders, without padding."""
        found = dict.fromkeys(self._pools, 0)
        for sent in self._ledger.orders.values():
            found[sent.order.pool] += sum(sent.lengths_ms)
        return found

    def _add(self, event: Submit) -> None:
        """Takes the segments that neither wait nor are outstanding already."""
        request = self._ledger.requests.get(event.request)
        if request is None:
            request = self._new_request(event)
        request.coming_ms = event.coming_ms
        placed = self._ledger.open_segments(request)
        placed.update(s for retry in request.retries for s in retry.segments)
        self._ledger.add(
            request, {s: max(1, ms) for s, ms in event.lengths_ms.items() if s not in placed}
        )
        if request.is_over:
            del self._ledger.requests[event.request]

    def _new_request(self, event: Submit) -> Request:
        self._n_requests += 1
        request = Request(event.request, _is_interactive(event), self._n_requests, event.background)
        request.served_ms = self._ledger.least_served_ms(background=event.background)
        self._ledger.requests[event.request] = request
        return request


def _is_interactive(event: Submit) -> bool:
    is_short = sum(event.lengths_ms.values()) + event.coming_ms < INTERACTIVE_MS
    interactive = is_short if event.interactive is None else event.interactive
    return interactive and not event.background


def orders(actions: Iterable[Action]) -> Iterator[Order]:
    """The orders among the actions."""
    return (action for action in actions if isinstance(action, Order))
