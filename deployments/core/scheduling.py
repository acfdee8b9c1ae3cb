"""The cluster's one scheduler, as a state machine without I/O (DESIGN 2, 3, 11).

    on_event(now_ms, event) -> list[Action]

Routers submit the lengths of a request's segments, get orders "these segments to that pool",
report how each went, and are told when segments are given up. Production (`Dispatcher`), the
simulator and the tests drive the same code; the clock is an argument.

Interactive requests go first, in order of arrival; the others share by audio sent. While much
waits, every replica with room gets a full chunk; what is left when little waits is planned so that
all finish together (`core/planning.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from deployments.core.backlog import Request
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
from deployments.core.ledger import Ledger
from deployments.core.placing import Placing
from deployments.core.planning import PoolSpec
from deployments.core.pools import PoolState
from deployments.core.rescuing import rescue

INTERACTIVE_MS = 60_000  # a request of less speech is one that somebody waits for


class Scheduler:
    """See the module's docstring. One instance a cluster; not thread-safe.

    `round_trip_ms` is how long an idle replica waits from its answer to its next chunk.
    """

    def __init__(
        self,
        pools: Sequence[PoolSpec],
        *,
        max_queue_s: float,
        first_order: int = 1,
        round_trip_ms: float = 0.0,
    ) -> None:
        self._pools = {spec.name: PoolState(spec) for spec in pools}
        self._requests: dict[str, Request] = {}
        self._ledger = Ledger(self._pools, self._requests, first_order=first_order)
        self._placing = Placing(self._ledger, round_trip_ms=round_trip_ms)
        self._round_trip_ms, self._max_queue_s = round_trip_ms, max_queue_s
        self._n_requests = 0

    def on_event(self, now_ms: float, event: Event) -> list[Action]:
        """What is to be done now. Reports of orders already closed are ignored."""
        actions: list[Action] = []
        match event:
            case PoolSize(pool, n_replicas, names):
                if self._pools[pool].resize(now_ms, n_replicas, names):
                    self._ledger.version += 1
            case Submit():
                wait_s = self.queue_s()
                if wait_s > self._max_queue_s and not event.again:
                    return [Refuse(event.request, max(1.0, wait_s - self._max_queue_s))]
                self._add(event)
            case Finished():
                self._ledger.finish(now_ms, event)
            case Lost():
                actions += self._lose(now_ms, event)
            case Cancel(request):
                self._cancel(now_ms, request)
            case Tick():
                actions += self._ledger.hedge(now_ms)
        actions += self._placing.dispatch(now_ms)
        if isinstance(event, Finished):
            actions += rescue(now_ms, self._ledger, round_trip_ms=self._round_trip_ms)
        return actions

    def knows(self, order: int) -> bool:
        """Whether this order was given here, and its end was not told yet."""
        return order in self._ledger.orders or order in self._ledger.swept

    def pool_of(self, order: int) -> str | None:
        """Where the order went; None if it was not given here or is closed."""
        sent = self._ledger.orders.get(order)
        return None if sent is None else sent.order.pool

    def queue_s(self) -> float:
        """How long what is waiting, outstanding and announced will take all pools together."""
        usable = self._ledger.usable()
        waiting_ms = self._ledger.waiting_ms + sum(r.coming_ms for r in self._requests.values())
        outstanding_ms = sum(pool.work_ms for pool in usable)
        n_replicas = sum(max(1, pool.n_replicas) for pool in usable)
        rate = sum(pool.total_rate or pool.rate for pool in usable)
        if not usable:
            return 0.0
        return waiting_ms / 1000 / rate + outstanding_ms / 1000 / n_replicas

    def snapshot(self) -> dict[str, dict[str, float | bool]]:
        """Per pool: replicas, outstanding chunks and audio, what was learned of its speed.

        `backlog_audio_s` is the audio on its way there, `outstanding_audio_s` the same as if every
        chunk were padded to its longest segment.
        """
        on_their_way_ms = self._on_their_way_ms()
        return {
            name: {
                "replicas": pool.n_replicas,
                "can_start": pool.spec.can_start,
                "outstanding_chunks": len(pool.outstanding),
                "outstanding_audio_s": pool.queued_ms / 1000,
                "backlog_audio_s": on_their_way_ms[name] / 1000,
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
        """Audio seconds that wait for a place."""
        return self._ledger.waiting_ms / 1000

    @property
    def backlog_s(self) -> float:
        """Audio seconds that wait or are on their way."""
        return (self._ledger.waiting_ms + sum(self._on_their_way_ms().values())) / 1000

    def _on_their_way_ms(self) -> dict[str, int]:
        """Audio that was sent to each pool and is not answered."""
        found = dict.fromkeys(self._pools, 0)
        for sent in self._ledger.orders.values():
            found[sent.order.pool] += sum(sent.lengths_ms)
        return found

    def _add(self, event: Submit) -> None:
        """What the request still needs; what is placed already is not placed a second time."""
        request = self._requests.get(event.request)
        if request is None:
            total_ms = sum(event.lengths_ms.values()) + event.coming_ms
            short = total_ms < INTERACTIVE_MS
            interactive = short if event.interactive is None else event.interactive
            self._n_requests += 1
            request = Request(event.request, interactive, self._n_requests)
            request.served_ms = self._ledger.least_served_ms()
            self._requests[event.request] = request
        request.coming_ms = event.coming_ms
        placed = self._ledger.segments_of(request)
        placed.update(s for retry in request.retries for s in retry.segments)
        self._ledger.add(
            request, {s: max(1, ms) for s, ms in event.lengths_ms.items() if s not in placed}
        )
        if request.over:
            del self._requests[event.request]

    def _lose(self, now_ms: float, event: Lost) -> Iterator[Action]:
        """What is given up; with a replica that is named as dead, all that it had is lost.

        Its other chunks may be on their way still, and would wait for its replacement.
        """
        known = self.knows(event.order)
        if event.order in self._ledger.swept:
            self._ledger.blame(now_ms, event)
        swept: list[int] = []
        if known and event.replica and not event.replica_lives:
            swept = self._ledger.sweep(event.replica, but=event.order)
        for number in (event.order, *swept):
            told = number == event.order
            given_up = self._ledger.lose(now_ms, replace(event, order=number), blamed=told)
            if given_up:
                yield GiveUp(*given_up)

    def _cancel(self, now_ms: float, name: str) -> None:
        request = self._requests.pop(name, None)
        if request is not None:
            self._ledger.drop(now_ms, request)


def orders(actions: Iterable[Action]) -> Iterator[Order]:
    """The orders among the actions."""
    return (action for action in actions if isinstance(action, Order))
