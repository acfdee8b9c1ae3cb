"""Requests that wait and orders that are not closed (DESIGN 3).

A segment is answered once: the first answer counts, and what was lost goes again unless another
order still has it.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from deployments.core.backlog import Request
from deployments.core.events import Finished, Lost, Order
from deployments.core.pools import PoolState

HEDGE_MS = 200.0  # a chunk is late from here on, and from half its time on
HEDGE_MARGIN = 1.2


@dataclass(slots=True)
class Sent:
    """An order that is not closed."""

    order: Order
    lengths_ms: tuple[int, ...]
    begin_ms: float
    expected_ms: float


class Ledger:
    """The scheduler owns the tables of pools and requests; this moves work between them."""

    def __init__(
        self,
        pools: Mapping[str, PoolState],
        requests: dict[str, Request],
        *,
        first_order: int,
    ) -> None:
        self.pools, self.requests = pools, requests
        self.orders: dict[int, Sent] = {}
        self.waiting_ms = 0
        self.interactive: dict[str, Request] = {}  # those that wait
        self.others: list[tuple[float, int, str]] = []  # heap of those that wait, by audio sent
        self.retrying: dict[str, Request] = {}
        self.version = 0  # changes where a plan made before is void
        self._next_order = first_order
        self._queued: set[str] = set()  # names in the heap
        self._checks: list[tuple[float, int]] = []  # heap: when an order is late
        self._copies: dict[tuple[str, int], int] = {}  # open orders of a hedged segment
        self._answered: set[tuple[str, int]] = set()  # hedged segments
        self.swept: dict[int, Order] = {}  # lost with another, of open requests; not told of yet

    # -- what waits

    def add(self, request: Request, lengths_ms: Mapping[int, int]) -> None:
        """Segments that are not placed."""
        self.waiting_ms += request.backlog.add(lengths_ms)
        self.enqueue(request)
        self.version += 1

    def drop(self, now_ms: float, request: Request) -> None:
        """Forgets a request that is over."""
        self.waiting_ms -= request.waiting_ms
        self.interactive.pop(request.name, None)
        self.retrying.pop(request.name, None)
        for order in list(request.open):
            self._close(now_ms, order)
        self.version += 1

    def segments_of(self, request: Request) -> set[int]:
        """Those on their way."""
        return {s for order in request.open for s in self.orders[order].order.segments}

    def least_served_ms(self) -> float:
        """Where a new request begins, so that it neither waits for all others nor they for it."""
        return self.others[0][0] if self.others else 0.0

    def usable(self) -> list[PoolState]:
        """Pools that run, fastest first; where none does, the cheapest that work can start.

        What else should start is the autoscaling policy's to say: a chunk that waits at the handle
        of a pool at zero cannot go elsewhere.
        """
        running = [pool for pool in self.pools.values() if pool.slots]
        if running:
            return sorted(running, key=lambda pool: pool.speed.slope)
        can_start = [pool for pool in self.pools.values() if pool.can_start]
        return sorted(can_start, key=lambda pool: pool.spec.price_per_hour)[:1]

    def enqueue(self, request: Request) -> None:
        if request.retries:
            self.retrying[request.name] = request
        if not request.backlog.members:
            return
        if request.interactive:
            self.interactive[request.name] = request
        elif request.name not in self._queued:
            self._queued.add(request.name)
            heapq.heappush(self.others, (request.served_ms, request.number, request.name))

    def pop_other(self) -> Request | None:
        """The waiting request with the least audio sent; put it back with `enqueue`."""
        while self.others:
            name = heapq.heappop(self.others)[2]
            self._queued.discard(name)
            request = self.requests.get(name)
            if request is not None and request.backlog.members:
                return request
        return None

    # -- what becomes of orders

    def finish(self, now_ms: float, event: Finished) -> None:
        sent = self.orders.get(event.order)
        if sent is None:
            return
        pool = self.pools[sent.order.pool]
        self._close(now_ms, event.order, event.replica, answered=True)
        request = self.requests.get(sent.order.request)
        if request is not None and request.over:
            del self.requests[request.name]
        pool.learn(event)

    def sweep(self, replica: str, *, but: int) -> list[int]:
        """The other orders of that replica, which are lost with one; each is told of yet."""
        mine = {n: s.order for n, s in self.orders.items() if s.order.replica == replica}
        self.swept = {n: o for n, o in self.swept.items() if o.request in self.requests}
        self.swept |= {n: order for n, order in mine.items() if n != but}
        return [n for n in mine if n != but]

    def blame(self, now_ms: float, event: Lost) -> None:
        """A swept order was indeed lost with a replica: before, it may have been on its way.

        That may be another than the one that it was meant for.
        """
        order = self.swept.pop(event.order)
        if event.replica_lives:
            return
        pool = self.pools[order.pool]
        if event.replica and pool.died(now_ms, event.order, event.replica):
            self.version += 1
        request = self.requests.get(order.request)
        if request is not None:
            request.blame(order.segments)

    def lose(
        self, now_ms: float, event: Lost, *, blamed: bool = True
    ) -> tuple[str, tuple[int, ...]] | None:
        """The order's segments go again; returns those that are given up.

        `blamed`: they may be what it was lost for.
        """
        sent = self.orders.get(event.order)
        if sent is None:
            return None
        order = sent.order
        pool = self.pools[order.pool]
        here = event.replica_lives or not order.replica or event.replica in ("", order.replica)
        alone = here and pool.has_alone(event.order)
        if not event.replica_lives and pool.died(now_ms, event.order, event.replica):
            self.version += 1
        lost = self._close(now_ms, event.order)
        request = self.requests.get(order.request)
        if request is None or not lost:
            return None
        lengths_ms = dict(zip(order.segments, sent.lengths_ms, strict=True))
        again = {s: lengths_ms[s] for s in lost}
        if blamed:
            request.blame(again)
        replica = (event.replica or order.replica) if event.replica_lives else None
        given_up = request.lose(again, order.pool, lives=replica, alone=blamed and alone)
        self.version += 1
        self.waiting_ms += sum(lengths_ms[s] for s in lost if s not in given_up)
        self.enqueue(request)
        return (order.request, given_up) if given_up else None

    def _close(
        self, now_ms: float, order_id: int, replica: str = "", *, answered: bool = False
    ) -> tuple[int, ...]:
        """Takes the order out; its segments that nobody has answered or still works on."""
        order = self.orders.pop(order_id).order
        self.pools[order.pool].remove(now_ms, order_id, replica)
        left = tuple(s for s in order.segments if not self._settled(order.request, s, answered))
        if request := self.requests.get(order.request):
            request.open.discard(order_id)
        return left

    def _settled(self, name: str, segment: int, answered: bool) -> bool:
        key = (name, segment)
        copies = self._copies.get(key)
        if copies is None:
            return answered
        if answered:
            self._answered.add(key)
        settled = copies > 1 or key in self._answered
        if copies > 1:
            self._copies[key] = copies - 1
        else:
            del self._copies[key]
            self._answered.discard(key)
        return settled

    def send(
        self,
        now_ms: float,
        request: Request,
        pool: PoolState,
        segments: tuple[int, ...],
        lengths_ms: tuple[int, ...],
        slot: int = 0,
    ) -> Order:
        """Orders the chunk from that replica of the pool; 0: from the one that is free first."""
        attempts = tuple(1 + request.deaths.get(s, 0) for s in segments)
        number, self._next_order = self._next_order, self._next_order + 1
        expected_ms = pool.place(now_ms, number, len(segments) * max(lengths_ms), slot)
        replica = pool.replica_of(number)
        order = Order(number, request.name, pool.spec.name, segments, attempts, replica)
        self.orders[order.order] = Sent(order, lengths_ms, now_ms, expected_ms)
        request.open.add(order.order)
        late_ms = expected_ms + max(HEDGE_MS, (expected_ms - now_ms) / 2)
        heapq.heappush(self._checks, (late_ms, order.order))
        return order

    def send_part(
        self,
        now_ms: float,
        request: Request,
        pool: PoolState,
        start: int,
        stop: int,
        slot: int = 0,
    ) -> Order:
        segments, lengths_ms = request.backlog.take(start, stop)
        audio_ms = sum(lengths_ms)
        self.waiting_ms -= audio_ms
        request.served_ms += audio_ms
        return self.send(now_ms, request, pool, segments, lengths_ms, slot)

    def copy(
        self,
        now_ms: float,
        request: Request,
        pool: PoolState,
        segments: tuple[int, ...],
        lengths_ms: tuple[int, ...],
        slot: int,
    ) -> Order:
        """Sends segments of an open order a second time; the first answer counts."""
        for segment in segments:
            self._copies[request.name, segment] = 2
        return self.send(now_ms, request, pool, segments, lengths_ms, slot)

    def may_copy(self, order: Order) -> bool:
        """Whether none of it is, or was, under way twice. A suspect might kill one more."""
        request = self.requests.get(order.request)
        if request is None or request.suspect == order.order:
            return False
        return not any((order.request, segment) in self._copies for segment in order.segments)

    # -- what is late

    def hedge(self, now_ms: float) -> Iterator[Order]:
        """Late chunks once more, to a replica that has nothing to do, where that can still win."""
        while self._checks and self._checks[0][0] <= now_ms:
            _, number = heapq.heappop(self._checks)
            sent = self.orders.get(number)
            request = self.requests.get(sent.order.request) if sent else None
            if sent is None or request is None:
                continue
            order = sent.order
            if not self.may_copy(order):
                continue
            took_ms = max(1.0, sent.expected_ms - sent.begin_ms)
            left_ms = (now_ms - sent.begin_ms) / 2 + (now_ms - sent.expected_ms)
            padded_ms = len(order.segments) * max(sent.lengths_ms)
            pool = self._idle(padded_ms, order.segments, left_ms)
            if pool is None:
                heapq.heappush(self._checks, (now_ms + max(HEDGE_MS, took_ms / 2), number))
                continue
            slot = pool.idle_slot()
            yield self.copy(now_ms, request, pool, order.segments, sent.lengths_ms, slot)

    def _idle(self, padded_ms: int, segments: tuple[int, ...], left_ms: float) -> PoolState | None:
        """The fastest pool with an idle replica that would be done before the time is over."""
        for pool in self.usable():
            fits = padded_ms <= pool.spec.batch_audio_ms or len(segments) == 1
            if pool.has_names:
                slot = pool.idle_slot()
                idle = slot > 0 and pool.has_room(batches=1, slot=slot)
            else:
                idle = bool(pool.slots) and pool.is_idle()
            if fits and idle and pool.speed.chunk_ms(padded_ms) * HEDGE_MARGIN < left_ms:
                return pool
        return None
