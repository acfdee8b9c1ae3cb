"""Which waiting segments go to which pool now, and what becomes of orders (DESIGN 3)."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from deployments.core.backlog import Request, Retry
from deployments.core.events import Finished, Order
from deployments.core.planning import Chunk, Worker, most_efficient, plan
from deployments.core.pools import PoolState

WINDOW_BATCHES = 8  # of the largest pool, at the least
WINDOW_ROUNDS = 3  # batches for every replica, at the least
BULK_ROUNDS = 3.0  # more waits than so many full chunks for every replica: no plan is needed
REPLAN = 0.15  # a plan is made anew after this part of its time
INTERACTIVE_SHARE = 0.5  # of a chunk's budget, for the others while interactive requests come
INTERACTIVE_MS = 10_000.0  # so long after the last of them
MOST_INTERACTIVE = 16  # requests looked at in one event
HEDGE_MS = 200.0  # a chunk is late from here on, and from half its time on
HEDGE_MARGIN = 1.2

Planned: TypeAlias = tuple[str, tuple[tuple[int, int], ...]]  # request, entries of its window


@dataclass(slots=True)
class Sent:
    """An order that is not closed."""

    order: Order
    lengths_ms: tuple[int, ...]
    begin_ms: float
    expected_ms: float


@dataclass(slots=True)
class Plan:
    """What is to be sent when pools have room again."""

    made_ms: float = 0.0
    end_ms: float = -1.0
    chunks: dict[str, deque[Planned]] = field(default_factory=dict)


class Placing:
    """Requests over pools. The scheduler owns the two tables; this moves work between them."""

    def __init__(
        self,
        pools: Mapping[str, PoolState],
        requests: Mapping[str, Request],
        *,
        first_order: int,
    ) -> None:
        self._pools, self._requests = pools, requests
        self.orders: dict[int, Sent] = {}
        self.waiting_ms = 0
        self._next_order = first_order
        self._interactive: dict[str, Request] = {}  # those that wait
        self._others: list[tuple[float, int, str]] = []  # heap of those that wait, by audio sent
        self._queued: set[str] = set()  # names in the heap
        self._retrying: dict[str, Request] = {}
        self._plan = Plan()
        self._checks: list[tuple[float, int]] = []  # heap: when an order is late
        self._copies: dict[tuple[str, int], int] = {}  # open orders of a hedged segment
        self._answered: set[tuple[str, int]] = set()  # hedged segments
        self._interactive_seen_ms = -INTERACTIVE_MS

    # -- what waits

    def add(self, request: Request, lengths_ms: Mapping[int, int]) -> None:
        """Segments that are not placed."""
        self.waiting_ms += request.backlog.add(lengths_ms)
        self._enqueue(request)
        self.forget_plan()

    def drop(self, now_ms: float, request: Request) -> None:
        """Forgets a request that is over."""
        self.waiting_ms -= request.waiting_ms
        self._interactive.pop(request.name, None)
        self._retrying.pop(request.name, None)
        for order in list(request.open):
            self._close(now_ms, order)
        self.forget_plan()

    def forget_plan(self) -> None:
        self._plan = Plan()

    def segments_of(self, request: Request) -> set[int]:
        """Those on their way."""
        return {s for order in request.open for s in self.orders[order].order.segments}

    def least_served_ms(self) -> float:
        """Where a new request begins, so that it neither waits for all others nor they for it."""
        return self._others[0][0] if self._others else 0.0

    def usable(self) -> list[PoolState]:
        """Pools that run or that work can start, fastest first."""
        pools = [p for p in self._pools.values() if p.slots or p.spec.can_start]
        return sorted(pools, key=lambda pool: pool.speed.slope)

    def _enqueue(self, request: Request) -> None:
        if request.retries:
            self._retrying[request.name] = request
        if not request.backlog.members:
            return
        if request.interactive:
            self._interactive[request.name] = request
        elif request.name not in self._queued:
            self._queued.add(request.name)
            heapq.heappush(self._others, (request.served_ms, request.number, request.name))

    # -- what becomes of orders

    def finish(self, now_ms: float, event: Finished) -> None:
        sent = self.orders.get(event.order)
        if sent is None:
            return
        pool = self._pools[sent.order.pool]
        self._close(now_ms, event.order, event.replica, answered=True)
        pool.learn(event.padded_ms, event.busy_ms, event.replica, event.share)

    def lose(self, now_ms: float, order_id: int) -> tuple[str, tuple[int, ...]] | None:
        """The order's replica died: its segments go again; returns those that are given up."""
        sent = self.orders.get(order_id)
        if sent is None:
            return None
        order = sent.order
        if self._pools[order.pool].died(now_ms):
            self.forget_plan()
        lost = self._close(now_ms, order_id)
        request = self._requests.get(order.request)
        if request is None or not lost:
            return None
        lengths_ms = dict(zip(order.segments, sent.lengths_ms, strict=True))
        given_up = request.lose(lost, [lengths_ms[s] for s in lost], order.pool)
        self.waiting_ms += sum(lengths_ms[s] for s in lost if s not in given_up)
        self._enqueue(request)
        return (order.request, given_up) if given_up else None

    def _close(
        self, now_ms: float, order_id: int, replica: str = "", *, answered: bool = False
    ) -> tuple[int, ...]:
        """Takes the order out; its segments that nobody has answered or still works on."""
        order = self.orders.pop(order_id).order
        self._pools[order.pool].remove(now_ms, order_id, replica)
        left = tuple(s for s in order.segments if not self._settled(order.request, s, answered))
        if request := self._requests.get(order.request):
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

    def _send(
        self,
        now_ms: float,
        request: Request,
        pool: PoolState,
        segments: tuple[int, ...],
        lengths_ms: tuple[int, ...],
    ) -> Order:
        attempt = 1 + max((request.deaths.get(s, 0) for s in segments), default=0)
        order = Order(self._next_order, request.name, pool.spec.name, segments, attempt)
        self._next_order += 1
        expected_ms = pool.place(now_ms, order.order, len(segments) * max(lengths_ms))
        self.orders[order.order] = Sent(order, lengths_ms, now_ms, expected_ms)
        request.open.add(order.order)
        late_ms = expected_ms + max(HEDGE_MS, (expected_ms - now_ms) / 2)
        heapq.heappush(self._checks, (late_ms, order.order))
        return order

    def _send_part(
        self, now_ms: float, request: Request, pool: PoolState, start: int, stop: int
    ) -> Order:
        segments, lengths_ms = request.backlog.take(start, stop)
        audio_ms = sum(lengths_ms)
        self.waiting_ms -= audio_ms
        request.served_ms += audio_ms
        return self._send(now_ms, request, pool, segments, lengths_ms)

    # -- what goes now

    def dispatch(self, now_ms: float) -> Iterator[Order]:
        """Orders for every free place: retries, interactive requests, the others by fair share."""
        if not (self._retrying or self._interactive or self._others):
            return
        pools = self.usable()
        if not any(pool.has_room(urgent=True) for pool in pools):
            return
        if self._retrying:
            yield from self._send_retries(now_ms, pools)
        if self._interactive:
            self._interactive_seen_ms = now_ms
            yield from self._send_interactive(now_ms, pools)
        if self._others:
            yield from self._send_others(now_ms, pools)

    def _send_retries(self, now_ms: float, pools: list[PoolState]) -> Iterator[Order]:
        for name, request in list(self._retrying.items()):
            left: list[Retry] = []
            for retry in request.retries:
                pool = _for_retry(now_ms, retry, pools)
                if pool is None:
                    left.append(retry)
                    continue
                self.waiting_ms -= sum(retry.lengths_ms)
                yield self._send(now_ms, request, pool, retry.segments, retry.lengths_ms)
            request.retries = left
            if not left:
                del self._retrying[name]

    def _send_interactive(self, now_ms: float, pools: list[PoolState]) -> Iterator[Order]:
        """Each where it is done first, what those before it will take counted in."""
        later: dict[str, list[Worker]] = {}
        for request in list(self._interactive.values())[:MOST_INTERACTIVE]:
            backlog = request.backlog
            backlog.refill(float("inf"), float("inf"))
            lengths_ms = backlog.lengths_ms()
            workers: list[Worker] = []
            for pool in pools:
                workers += _fresh(now_ms, pool, len(lengths_ms), later)
            _, chunks = plan(now_ms, lengths_ms, workers)
            for chunk in chunks:
                workers[chunk.worker].free_ms = max(workers[chunk.worker].free_ms, chunk.end_ms)
            yield from self._send_chunks(now_ms, request, chunks, workers, urgent=True)
            if not backlog.members:
                del self._interactive[request.name]
            if not any(pool.has_room(urgent=True) for pool in pools):
                return

    def _send_chunks(
        self,
        now_ms: float,
        request: Request,
        chunks: list[Chunk],
        workers: list[Worker],
        *,
        urgent: bool,
    ) -> Iterator[Order]:
        """Sends those for which there is room; the others stay where they are."""
        window = request.backlog.window
        parts = [(workers[c.worker].pool, tuple(window[c.start : c.stop])) for c in chunks]
        for name, part in parts:
            pool = self._pools[name]
            padded_ms = -part[0][0] * len(part)
            if pool.has_room(urgent=urgent, padded_ms=padded_ms):
                start = request.backlog.find(-part[0][0], part[0][1])
                yield self._send_part(now_ms, request, pool, start, start + len(part))
            elif not urgent:
                self._plan.chunks.setdefault(name, deque()).append((request.name, part))

    def _send_others(self, now_ms: float, pools: list[PoolState]) -> Iterator[Order]:
        rate = sum(pool.total_rate for pool in pools)
        full_ms = sum(pool.full_chunk_ms * pool.total_rate for pool in pools) / rate if rate else 0
        if rate and self.waiting_ms / rate > BULK_ROUNDS * full_ms:
            self.forget_plan()
            yield from self._send_bulk(now_ms, pools, self.waiting_ms / rate)
        else:
            yield from self._send_planned(now_ms, pools)

    def _send_bulk(
        self, now_ms: float, pools: list[PoolState], time_left_ms: float
    ) -> Iterator[Order]:
        """A full chunk for every place; the faster the pool, the longer its segments."""
        total = sum(pool.total_rate for pool in pools)
        faster = 0.0
        for pool in pools:
            while self._others and pool.has_room() and pool.slots:
                request = self._next_other(pools)
                if request is None:
                    break
                part = self._bulk_part(now_ms, request, pool, faster / total, time_left_ms)
                if part is None:
                    break
                yield self._send_part(now_ms, request, pool, *part)
                self._requeue(request)
            faster += pool.total_rate
            start_ms = pool.spec.start_ms + pool.full_chunk_ms
            starts = not pool.slots and pool.spec.can_start and not pool.outstanding
            if starts and time_left_ms > 2 * start_ms and (request := self._next_other(pools)):
                part = self._bulk_part(now_ms, request, pool, 0.0, time_left_ms)
                if part is not None:
                    yield self._send_part(now_ms, request, pool, *part)
                    self._requeue(request)

    def _bulk_part(
        self, now_ms: float, request: Request, pool: PoolState, place: float, time_left_ms: float
    ) -> tuple[int, int] | None:
        """Which part of the request's window is this pool's next chunk; None: too slow by now."""
        window = request.backlog.window
        budget_ms = self._budget_ms(now_ms, pool)
        if pool.full_chunk_ms > time_left_ms / 2:
            budget_ms = min(
                budget_ms, int(pool.spec.batch_audio_ms * time_left_ms / 2 / pool.full_chunk_ms)
            )
        start = min(int(place * len(window)), len(window) - 1)
        longest_ms = -window[start][0]
        if pool.speed.chunk_ms(longest_ms) > time_left_ms:
            return None
        while start and (len(window) - start + 1) * -window[start - 1][0] <= budget_ms:
            start -= 1
        lengths_ms = [
            -negative
            for negative, _ in window[start : start + 1 + budget_ms // max(1, -window[-1][0])]
        ]
        n = most_efficient(
            lengths_ms,
            0,
            overhead_ms=pool.speed.overhead_ms,
            slope=pool.speed.slope,
            budget_ms=budget_ms,
        )
        return start, start + n

    def _send_planned(self, now_ms: float, pools: list[PoolState]) -> Iterator[Order]:
        made = self._plan
        stale = now_ms > made.made_ms + REPLAN * (made.end_ms - made.made_ms)
        if stale or made.end_ms < 0:
            yield from self._make_plan(now_ms, pools)
            return
        for pool in pools:
            queue = made.chunks.get(pool.spec.name)
            while queue and pool.has_room(padded_ms=-queue[0][1][0][0] * len(queue[0][1])):
                name, part = queue.popleft()
                request = self._requests.get(name)
                if request is None:
                    continue
                start = request.backlog.find(-part[0][0], part[0][1])
                yield self._send_part(now_ms, request, pool, start, start + len(part))

    def _make_plan(self, now_ms: float, pools: list[PoolState]) -> Iterator[Order]:
        """Plans every request in turn upon those before it, and sends what has room."""
        self._plan = Plan(made_ms=now_ms)
        workers = [w for pool in pools for w in pool.workers(now_ms, 1_000_000)]
        for worker in workers:
            worker.budget_ms = self._budget_ms(now_ms, self._pools[worker.pool])
        names = []
        while self._others:
            names.append(heapq.heappop(self._others)[2])
        self._queued.clear()
        for name in names:
            request = self._requests.get(name)
            if request is None or not request.backlog.members:
                continue
            request.backlog.refill(float("inf"), float("inf"))
            end_ms, chunks = plan(now_ms, request.backlog.lengths_ms(), workers)
            for chunk in chunks:
                workers[chunk.worker].free_ms = max(workers[chunk.worker].free_ms, chunk.end_ms)
            self._plan.end_ms = max(self._plan.end_ms, end_ms)
            yield from self._send_chunks(now_ms, request, chunks, workers, urgent=False)
            self._enqueue(request)

    def _next_other(self, pools: list[PoolState]) -> Request | None:
        """The waiting request with the least audio sent, its window filled."""
        while self._others:
            _, _, name = heapq.heappop(self._others)
            self._queued.discard(name)
            request = self._requests.get(name)
            if request is None or not request.backlog.members:
                continue
            batch_ms = max(pool.spec.batch_audio_ms for pool in pools)
            round_ms = sum(pool.spec.batch_audio_ms * pool.n_replicas for pool in pools)
            window_ms = max(WINDOW_BATCHES * batch_ms, WINDOW_ROUNDS * round_ms)
            request.backlog.refill(window_ms, batch_ms)
            return request
        return None

    def _requeue(self, request: Request) -> None:
        self._enqueue(request)

    def _budget_ms(self, now_ms: float, pool: PoolState) -> int:
        """A chunk's budget for requests that are not interactive."""
        soon = now_ms - self._interactive_seen_ms < INTERACTIVE_MS
        return int(pool.spec.batch_audio_ms * (INTERACTIVE_SHARE if soon else 1.0))

    # -- what is late

    def hedge(self, now_ms: float) -> Iterator[Order]:
        """Late chunks once more, to a replica that has nothing to do, where that can still win."""
        while self._checks and self._checks[0][0] <= now_ms:
            _, number = heapq.heappop(self._checks)
            sent = self.orders.get(number)
            request = self._requests.get(sent.order.request) if sent else None
            if sent is None or request is None:
                continue
            order = sent.order
            if (order.request, order.segments[0]) in self._copies:
                continue
            took_ms = max(1.0, sent.expected_ms - sent.begin_ms)
            left_ms = (now_ms - sent.begin_ms) / 2 + (now_ms - sent.expected_ms)
            padded_ms = len(order.segments) * max(sent.lengths_ms)
            pool = self._idle(padded_ms, order.segments, left_ms)
            if pool is None:
                heapq.heappush(self._checks, (now_ms + max(HEDGE_MS, took_ms / 2), number))
                continue
            for segment in order.segments:
                self._copies[order.request, segment] = 2
            yield self._send(now_ms, request, pool, order.segments, sent.lengths_ms)

    def _idle(self, padded_ms: int, segments: tuple[int, ...], left_ms: float) -> PoolState | None:
        """The fastest pool with an idle replica that would be done before the time is over."""
        for pool in self.usable():
            fits = padded_ms <= pool.spec.batch_audio_ms or len(segments) == 1
            idle = len(pool.outstanding) < pool.n_replicas
            if fits and idle and pool.speed.chunk_ms(padded_ms) * HEDGE_MARGIN < left_ms:
                return pool
        return None


def _for_retry(now_ms: float, retry: Retry, pools: list[PoolState]) -> PoolState | None:
    """Where the chunk is done first; not in the pool it was lost in if another one runs."""
    padded_ms = len(retry.segments) * max(retry.lengths_ms)
    found: list[tuple[bool, bool, float, PoolState]] = []
    for index, pool in enumerate(pools):
        fits = padded_ms <= pool.spec.batch_audio_ms or len(retry.segments) == 1
        workers = pool.workers(now_ms, 1)
        if workers and pool.has_room(urgent=True, padded_ms=padded_ms):
            end_ms = workers[0].free_ms + pool.speed.chunk_ms(padded_ms) + index * 1e-6
            found.append((not fits, pool.spec.name == retry.avoid, end_ms, pool))
    return min(found, key=lambda f: f[:3])[3] if found else None


def _fresh(
    now_ms: float, pool: PoolState, most: int, later: dict[str, list[Worker]]
) -> list[Worker]:
    """The pool's first workers, with what this round's earlier requests will take of them."""
    known = later.get(pool.spec.name)
    if known is None or len(known) < min(most, max(1, pool.n_replicas)):
        known = later[pool.spec.name] = pool.workers(now_ms, max(most, 8))
    return known
