"""The cluster's one scheduler, as a state machine without I/O (DESIGN 2, 3, 11).

    on_event(now_ms, event) -> list[Action]

Routers submit the lengths of a request's segments, get orders "these segments to that pool",
report how each went, and are told when segments are given up. Production (`Dispatcher`) and the
tests drive the same code; the clock is an argument.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from deployments.core.planning import Planned, PoolSpec, PoolState, plan

MAX_ATTEMPTS = 2  # one retry after a replica died; a chunk that kills two is given up
WINDOW_BATCHES = 8
PLAN_WINDOWS = 2  # times the replicas: how far a long recording is planned ahead


@dataclass(frozen=True, slots=True)
class PoolSize:
    """A pool has this many running replicas now."""

    pool: str
    n_replicas: int


@dataclass(frozen=True, slots=True)
class Submit:
    """Segments of a request to recognise: index -> length.

    May come again, with further ones or with what is left.
    """

    request: str
    lengths_ms: dict[int, int]
    again: bool = False  # of a request that was taken before: never refused
    coming_ms: int = 0  # at most so much more will be submitted: its recording is still being read


@dataclass(frozen=True, slots=True)
class Finished:
    """A chunk was answered."""

    order: int
    padded_ms: int
    busy_ms: float


@dataclass(frozen=True, slots=True)
class Died:
    """A chunk was lost with its replica; it may go elsewhere."""

    order: int


@dataclass(frozen=True, slots=True)
class Cancel:
    """The request is over, or its client has gone."""

    request: str


Event: TypeAlias = PoolSize | Submit | Finished | Died | Cancel


@dataclass(frozen=True, slots=True)
class Order:
    """Send these segments of this request to that pool, as one chunk."""

    order: int
    request: str
    pool: str
    segments: tuple[int, ...]
    attempt: int


@dataclass(frozen=True, slots=True)
class GiveUp:
    """These segments were lost too often."""

    request: str
    segments: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Refuse:
    """The request was not taken: what waits already cannot be done in the promised time."""

    request: str
    retry_after_s: float


Action: TypeAlias = Order | GiveUp | Refuse


@dataclass(slots=True)
class _Request:
    waiting: dict[int, int]  # segment -> length
    attempts: dict[int, int] = field(default_factory=dict)
    outstanding_ms: int = 0
    coming_ms: int = 0


class Scheduler:
    """See the module's docstring. One instance a cluster; not thread-safe."""

    def __init__(
        self, pools: Sequence[PoolSpec], *, max_queue_s: float, first_order: int = 1
    ) -> None:
        self._pools = {spec.name: PoolState(spec) for spec in pools}
        self._requests: dict[str, _Request] = {}
        self._orders: dict[int, Order] = {}
        self._lengths: dict[int, dict[int, int]] = {}  # order -> lengths of its segments
        self._max_queue_s = max_queue_s
        self._next_order = first_order

    def on_event(self, now_ms: float, event: Event) -> list[Action]:
        """What is to be done now. Reports of orders already closed are ignored."""
        actions: list[Action] = []
        match event:
            case PoolSize(pool, n_replicas):
                self._pools[pool].n_replicas = n_replicas
            case Submit(request, lengths_ms, again, coming_ms):
                wait_s = self.queue_s()
                if wait_s > self._max_queue_s and not again:
                    return [Refuse(request, max(1.0, wait_s - self._max_queue_s))]
                self._add(request, lengths_ms, coming_ms)
            case Finished(order, padded_ms, busy_ms):
                self._learn(order, padded_ms, busy_ms)
                self._close(order)
            case Died(order):
                actions += self._requeue(order)
            case Cancel(request):
                self._requests.pop(request, None)
                for order in [o.order for o in self._orders.values() if o.request == request]:
                    self._close(order)
        return actions + list(self._dispatch(now_ms))

    def knows(self, order: int) -> bool:
        """Whether this order was given here and is not closed."""
        return order in self._orders

    def queue_s(self) -> float:
        """How long what is waiting, outstanding and announced will take all pools together."""
        waiting_ms = sum(sum(r.waiting.values()) + r.coming_ms for r in self._requests.values())
        usable = self._usable()
        outstanding_s = sum(ms for p in usable for _, ms in p.outstanding.values()) / 1000
        replicas = sum(max(1, p.n_replicas) for p in usable)
        speed = sum(max(1, p.n_replicas) * p.spec.speed / p.slowdown for p in usable)
        return waiting_ms / 1000 / speed + outstanding_s / replicas

    def backlog_s(self) -> float:
        """Audio that waits or is under way, in seconds of padded audio."""
        waiting_ms = sum(sum(r.waiting.values()) for r in self._requests.values())
        under_way = (ms for p in self._pools.values() for ms, _ in p.outstanding.values())
        return (waiting_ms + sum(under_way)) / 1000

    def snapshot(self) -> dict[str, dict[str, float | bool]]:
        """Per pool: replicas, outstanding chunks and audio, smoothed slowdown, audio speed."""
        return {
            name: {
                "replicas": pool.n_replicas,
                "can_start": pool.spec.can_start,
                "outstanding_chunks": len(pool.outstanding),
                "outstanding_audio_s": sum(p for p, _ in pool.outstanding.values()) / 1000,
                "slowdown": pool.slowdown,
                "speed": pool.spec.speed / pool.slowdown,
            }
            for name, pool in self._pools.items()
        }

    def _usable(self) -> list[PoolState]:
        """Pools with a replica; where none has one, the cheapest: what waits makes it start."""
        pools = list(self._pools.values())
        running = [pool for pool in pools if pool.n_replicas > 0]
        return running or [min(pools, key=lambda pool: pool.spec.price_per_hour)]

    def _add(self, name: str, lengths_ms: dict[int, int], coming_ms: int) -> None:
        """What the request still needs; what is placed already is not placed a second time."""
        request = self._requests.setdefault(name, _Request({}))
        placed = {s for o in self._orders.values() if o.request == name for s in o.segments}
        request.waiting.update({s: ms for s, ms in lengths_ms.items() if s not in placed})
        request.coming_ms = coming_ms

    def _learn(self, order: int, padded_ms: int, busy_ms: float) -> None:
        if order not in self._orders or padded_ms <= 0:
            return
        pool = self._pools[self._orders[order].pool]
        expected_ms = pool.spec.overhead_ms + padded_ms / pool.spec.speed
        pool.slowdown += 0.2 * (min(max(busy_ms / expected_ms, 0.02), 50.0) - pool.slowdown)

    def _close(self, order_id: int) -> Order | None:
        order = self._orders.pop(order_id, None)
        if order is None:
            return None
        lengths = self._lengths.pop(order_id)
        self._pools[order.pool].outstanding.pop(order_id, None)
        if request := self._requests.get(order.request):
            request.outstanding_ms -= sum(lengths.values())
            if not request.waiting and request.outstanding_ms <= 0 and not request.coming_ms:
                del self._requests[order.request]
        return order

    def _requeue(self, order_id: int) -> list[Action]:
        order = self._orders.get(order_id)
        request = self._requests.get(order.request) if order else None
        if order is None or request is None:
            self._close(order_id)
            return []
        lost = [s for s in order.segments if request.attempts[s] >= MAX_ATTEMPTS]
        again = {s: self._lengths[order_id][s] for s in order.segments if s not in lost}
        request.waiting.update(again)
        self._close(order_id)
        return [GiveUp(order.request, tuple(lost))] if lost else []

    def _dispatch(self, now_ms: float) -> Iterator[Order]:
        """Orders for every free place, requests with the least audio under way first."""
        shortest_ms = min(
            (min(r.waiting.values(), default=0) for r in self._requests.values()), default=0
        )
        if not any(pool.has_room(shortest_ms) for pool in self._usable()):
            return
        for name in sorted(self._requests, key=lambda r: self._requests[r].outstanding_ms):
            request = self._requests[name]
            while request.waiting and (chosen := self._next_chunk(now_ms, request)):
                yield self._send(name, request, *chosen)

    def _next_chunk(self, now_ms: float, request: _Request) -> Planned | None:
        """The first chunk of the plan whose pool has room now, fastest pools first."""
        workers = [
            (free_ms, pool) for pool in self._usable() for free_ms in pool.free_at_ms(now_ms)
        ]
        queue = self._in_order(request)
        for pool, segments in plan(now_ms, queue, request.waiting, workers):
            longest_ms = request.waiting[segments[0]]
            if pool.has_room(len(segments) * longest_ms):
                return pool, segments
        return None

    def _in_order(self, request: _Request) -> list[int]:
        """What waits, longest first inside windows of a few batches, the windows in time order.

        Longest first packs well; windows let a long recording's text come out from its beginning.
        """
        window_ms = WINDOW_BATCHES * max(pool.spec.batch_audio_ms for pool in self._usable())
        n_replicas = sum(max(1, pool.n_replicas) for pool in self._usable())
        before_ms = 0
        places: list[tuple[int, int, int]] = []
        for segment in sorted(request.waiting):
            length_ms = request.waiting[segment]
            places.append((before_ms // window_ms, -length_ms, segment))
            before_ms += length_ms
            if before_ms > PLAN_WINDOWS * window_ms * n_replicas:
                break  # far more than is sent ahead: the rest is planned when its turn comes
        return [segment for _, _, segment in sorted(places)]

    def _send(
        self, name: str, request: _Request, pool: PoolState, segments: tuple[int, ...]
    ) -> Order:
        lengths = {s: request.waiting.pop(s) for s in segments}
        for segment in segments:
            request.attempts[segment] = request.attempts.get(segment, 0) + 1
        attempt = max(request.attempts[s] for s in segments)
        order = Order(self._next_order, name, pool.spec.name, segments, attempt)
        self._next_order += 1
        padded_ms = len(segments) * max(lengths.values())
        pool.outstanding[order.order] = (padded_ms, pool.chunk_ms(padded_ms))
        request.outstanding_ms += sum(lengths.values())
        self._orders[order.order] = order
        self._lengths[order.order] = lengths
        return order
