"""The tables of the scheduler: requests that wait, orders that are open, and copies among them.

An order is open from when it is sent until it is answered, lost or cancelled. The rules of what
then becomes of its segments are in `losses.py` and `copying.py`.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import dataclass

from deployments.core.scheduler.backlog import Request, Segments
from deployments.core.scheduler.events import Finished, Order
from deployments.core.scheduler.pools import PoolState


@dataclass(frozen=True, slots=True)
class Sent:
    """An open order and the lengths of its segments."""

    order: Order
    lengths_ms: tuple[int, ...]

    @property
    def padded_ms(self) -> int:
        return len(self.lengths_ms) * max(self.lengths_ms)


class Ledger:
    """Moves segments between the tables. One instance for each scheduler."""

    def __init__(self, pools: Mapping[str, PoolState], *, first_order: int) -> None:
        self.pools = pools
        self.requests: dict[str, Request] = {}
        self.orders: dict[int, Sent] = {}  # those that are open
        self.swept: dict[int, Order] = {}  # taken for lost with their replica, not reported yet
        self.waiting_ms = 0  # audio that waits, of all requests
        self.interactive: dict[str, Request] = {}  # interactive requests that wait
        # Heap of the others by (background, served_ms, number, name): the least served ones first.
        self.others: list[tuple[bool, float, int, str]] = []
        self.retrying: dict[str, Request] = {}  # requests with retries
        self.version = 0  # a plan made under another version is void
        self._next_order = first_order
        self._queued: set[str] = set()  # the names in the heap
        self._copies: dict[tuple[str, int], int] = {}  # copied segment -> its open orders
        self._answered: set[tuple[str, int]] = set()  # copied segments that have their answer

    # -- requests

    def add(self, request: Request, lengths_ms: Mapping[int, int]) -> None:
        """Lets segments of the request wait."""
        self.waiting_ms += request.backlog.add(lengths_ms)
        self.enqueue(request)
        self.version += 1

    def enqueue(self, request: Request) -> None:
        """Puts a request that waits into the table of its kind."""
        if request.retries:
            self.retrying[request.name] = request
        if not request.backlog.members:
            return
        if request.interactive:
            self.interactive[request.name] = request
        elif request.name not in self._queued:
            self._queued.add(request.name)
            place = (request.background, request.served_ms, request.number, request.name)
            heapq.heappush(self.others, place)

    def pop_other(self) -> Request | None:
        """Takes out the waiting request that was sent least; `enqueue` puts it back."""
        while self.others:
            name = heapq.heappop(self.others)[3]
            self._queued.discard(name)
            request = self.requests.get(name)
            if request is not None and request.backlog.members:
                return request
        return None

    def drop(self, now_ms: float, name: str) -> None:
        """Forgets a request and closes its orders."""
        request = self.requests.pop(name, None)
        if request is None:
            return
        self.waiting_ms -= request.waiting_ms
        self.interactive.pop(name, None)
        self.retrying.pop(name, None)
        for order in list(request.open):
            self.close(now_ms, order)
        self.version += 1

    def open_segments(self, request: Request) -> set[int]:
        """The request's segments that are outstanding."""
        return {s for order in request.open for s in self.orders[order].order.segments}

    def least_served_ms(self, *, background: bool = False) -> float:
        """Where a new request begins: it should wait for the others no more than they for it."""
        return min((place[1] for place in self.others if place[0] == background), default=0.0)

    # -- pools

    def usable(self) -> list[PoolState]:
        """The pools with replicas, fastest first; if there are none, the cheapest that can start.

        Which other pools should start is up to the autoscaling policy. A chunk that waits for a
        replica to start cannot be sent elsewhere.
        """
        running = [pool for pool in self.pools.values() if pool.slots]
        if running:
            return sorted(running, key=lambda pool: pool.speed.slope)
        can_start = [pool for pool in self.pools.values() if pool.can_start]
        return sorted(can_start, key=lambda pool: pool.spec.price_per_hour)[:1]

    # -- orders

    def send(
        self,
        now_ms: float,
        request: Request,
        pool: PoolState,
        segments: Segments,
        lengths_ms: tuple[int, ...],
        slot_number: int,
    ) -> Order:
        """Orders a chunk of these segments from the slot's replica."""
        attempts = tuple(1 + request.losses.get(s, 0) for s in segments)
        number, self._next_order = self._next_order, self._next_order + 1
        replica = pool.replica_of(slot_number)
        order = Order(number, request.name, pool.spec.name, segments, attempts, replica)
        sent = self.orders[number] = Sent(order, lengths_ms)
        pool.place(now_ms, number, sent.padded_ms, slot_number)
        request.open.add(number)
        return order

    def send_part(
        self,
        now_ms: float,
        request: Request,
        pool: PoolState,
        part: tuple[int, int],
        slot_number: int,
    ) -> Order:
        """Orders the part [first, stop) of the request's window."""
        segments, lengths_ms = request.backlog.pop(*part)
        audio_ms = sum(lengths_ms)
        self.waiting_ms -= audio_ms
        request.served_ms += audio_ms
        return self.send(now_ms, request, pool, segments, lengths_ms, slot_number)

    def finish(self, now_ms: float, event: Finished) -> None:
        """Closes an order that was answered; its request is forgotten with its last one."""
        sent = self.orders.get(event.order)
        if sent is None:
            return
        self.close(now_ms, event.order, answered=True)
        request = self.requests.get(sent.order.request)
        if request is not None and request.is_over:
            del self.requests[request.name]
        self.pools[sent.order.pool].learn(event)

    def close(self, now_ms: float, number: int, *, answered: bool = False) -> Segments:
        """Takes an order out; returns its segments without an answer and without an open copy."""
        order = self.orders.pop(number).order
        self.pools[order.pool].remove(now_ms, number)
        left = tuple(s for s in order.segments if not self._is_settled(order.request, s, answered))
        if request := self.requests.get(order.request):
            request.open.discard(number)
        return left

    # -- copies

    def copy(
        self,
        now_ms: float,
        request: Request,
        pool: PoolState,
        segments: Segments,
        lengths_ms: tuple[int, ...],
        slot_number: int,
    ) -> Order:
        """Orders segments of an open order a second time; the first answer counts."""
        for segment in segments:
            self._copies[request.name, segment] = 2
        return self.send(now_ms, request, pool, segments, lengths_ms, slot_number)

    def is_copied(self, order: Order) -> bool:
        """Whether a segment of the order has been ordered twice."""
        return any((order.request, segment) in self._copies for segment in order.segments)

    def _is_settled(self, name: str, segment: int, answered: bool) -> bool:
        """Whether the segment needs no other order, now that one of its orders is closed."""
        key = (name, segment)
        n_open = self._copies.get(key)
        if n_open is None:
            return answered
        if answered:
            self._answered.add(key)
        if n_open > 1:
            self._copies[key] = n_open - 1
            return True
        was_answered = key in self._answered
        del self._copies[key]
        self._answered.discard(key)
        return was_answered
