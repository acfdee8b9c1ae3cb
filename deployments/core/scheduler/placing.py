"""Chooses which waiting segments are sent now, and to which replica (DESIGN, Placing)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

from deployments.core.scheduler.backlog import Request
from deployments.core.scheduler.budgets import chunk_budget_ms, most_batches
from deployments.core.scheduler.bulk import send_bulk
from deployments.core.scheduler.events import Order
from deployments.core.scheduler.ledger import Ledger
from deployments.core.scheduler.planning import PlannedChunk, Worker, plan
from deployments.core.scheduler.pools import URGENT_BATCHES, PoolState
from deployments.core.scheduler.retrying import send_again
from deployments.core.scheduler.speeds import DOUBT

BULK_ROUNDS = 2.5  # with more waiting than this many full chunks per replica, nothing is planned
REPLAN = 0.10  # a plan is made anew after this part of the time that it spans
REPLAN_UNEVEN = 0.02  # the same while one replica is idle and work waits for another
PLAN_REST_MS = 0.05  # least time between two plans, per replica; a plan costs a fifth of it
PROBE_OVERHEADS = 4  # an unknown replica's first chunk costs this many overheads,
PROBE_PART = 0.25  # or this part of the whole time, if that is more
INTERACTIVE_MS = 10_000.0  # interactive requests "come" for so long after the last of them
LEAST_WORKERS = 32  # replicas of each pool in a plan; more if more segments wait
MOST_INTERACTIVE = 16  # interactive requests that are looked at for one event

Part: TypeAlias = tuple[tuple[int, int], ...]  # entries of a request's window
Lane: TypeAlias = tuple[str, int]  # a pool and a slot number


@dataclass(frozen=True, slots=True)
class Planned:
    """A chunk that waits until its replica has room."""

    request: str
    part: Part
    is_last: bool  # the plan has no further chunk for the replica

    @property
    def padded_ms(self) -> int:
        return -self.part[0][0] * len(self.part)  # the window's lengths are negative


@dataclass(slots=True)
class Plan:
    """What is to be sent as replicas get room."""

    version: int = -1  # the ledger's when the plan was made
    made_ms: float = 0.0
    end_ms: float = -1.0
    lanes: dict[Lane, deque[Planned]] = field(default_factory=dict)


class Placing:
    """Chooses; the ledger carries out. One instance for each scheduler."""

    def __init__(self, ledger: Ledger, *, round_trip_ms: float) -> None:
        self._ledger = ledger
        self._round_trip_ms = round_trip_ms
        self._plan = Plan()
        self._interactive_seen_ms = -INTERACTIVE_MS

    def dispatch(self, now_ms: float) -> Iterator[Order]:
        """Orders for all room there is: retries first, then interactive requests, then others."""
        for pool in self._ledger.pools.values():
            pool.kept.clear()
        if not (self._ledger.retrying or self._ledger.interactive or self._ledger.others):
            return
        pools = self._ledger.usable()
        if not any(pool.may_have_room(batches=URGENT_BATCHES) for pool in pools):
            return
        if self._ledger.retrying:
            yield from send_again(now_ms, self._ledger, pools)
        if self._ledger.interactive:
            self._interactive_seen_ms = now_ms
            yield from self._send_interactive(now_ms, pools)
        if self._ledger.others:
            yield from self._send_others(now_ms, pools)

    # -- interactive requests

    def _send_interactive(self, now_ms: float, pools: list[PoolState]) -> Iterator[Order]:
        """Each request where it is done first, after what the requests before it will take."""
        later: dict[str, list[Worker]] = {}
        for request in list(self._ledger.interactive.values())[:MOST_INTERACTIVE]:
            backlog = request.backlog
            backlog.refill(float("inf"), float("inf"))
            lengths_ms = backlog.lengths_ms()
            workers: list[Worker] = []
            for pool in pools:
                workers += _first_workers(now_ms, pool, len(lengths_ms), later)
            _, chunks = plan(now_ms, lengths_ms, workers)
            _occupy(workers, chunks)
            yield from self._send_chunks(now_ms, request, chunks, workers, urgent=True)
            if not backlog.members:
                del self._ledger.interactive[request.name]
            if not any(pool.may_have_room(batches=URGENT_BATCHES) for pool in pools):
                return

    # -- the others, while much waits

    def _send_others(self, now_ms: float, pools: list[PoolState]) -> Iterator[Order]:
        rate = sum(pool.total_rate for pool in pools)
        full_ms = sum(pool.full_chunk_ms * pool.total_rate for pool in pools) / rate if rate else 0
        if rate and self._ledger.waiting_ms / rate > BULK_ROUNDS * full_ms:
            self._plan = Plan()
            sent_ms = sum(pool.work_ms * pool.rate for pool in pools if pool.slots)
            end_ms = now_ms + (self._ledger.waiting_ms + sent_ms) / rate
            gives_way = self._gives_way(now_ms)
            yield from send_bulk(
                now_ms, self._ledger, pools, horizon_ms=end_ms, gives_way=gives_way
            )
            if self._ledger.orders:
                return
        # Bulk may leave a segment that is too long for each replica's share: a plan sends it.
        yield from self._send_planned(now_ms, pools)

    # -- the others, by a plan

    def _send_planned(self, now_ms: float, pools: list[PoolState]) -> Iterator[Order]:
        """What the plan has for replicas with room; the plan is made anew when it is stale."""
        made = self._plan
        age_ms, span_ms = now_ms - made.made_ms, made.end_ms - made.made_ms
        rest_ms = PLAN_REST_MS * sum(pool.n_replicas for pool in pools)
        if made.version != self._ledger.version or age_ms > max(REPLAN * span_ms, rest_ms):
            yield from self._make_plan(now_ms, pools)
            return
        yield from self._follow_plan(now_ms)
        if age_ms > max(REPLAN_UNEVEN * span_ms, rest_ms) and self._is_uneven(pools):
            yield from self._make_plan(now_ms, pools)

    def _is_uneven(self, pools: list[PoolState]) -> bool:
        """Whether one replica is idle while planned work waits for another."""
        some = any(queue and slot_number for (_, slot_number), queue in self._plan.lanes.items())
        return some and any(pool.has_idle() for pool in pools)

    def _follow_plan(self, now_ms: float) -> Iterator[Order]:
        for (pool_name, slot_number), queue in self._plan.lanes.items():
            pool = self._ledger.pools[pool_name]
            while queue and self._may_send(now_ms, pool, slot_number, queue[0]):
                planned = queue.popleft()
                request = self._ledger.requests.get(planned.request)
                if request is not None:
                    yield self._send(now_ms, request, pool, planned.part, slot_number)

    def _make_plan(self, now_ms: float, pools: list[PoolState]) -> Iterator[Order]:
        """Plans each request after the ones before it, and sends what there is room for."""
        self._plan = Plan(self._ledger.version, made_ms=now_ms)
        requests = []
        while request := self._ledger.pop_other():
            requests.append(request)
        most = max(LEAST_WORKERS, sum(len(request.backlog.members) for request in requests))
        workers = self._workers(now_ms, pools, most)
        for request in requests:
            request.backlog.refill(float("inf"), float("inf"))
            end_ms, chunks = plan(now_ms, request.backlog.lengths_ms(), workers)
            _occupy(workers, chunks)
            self._plan.end_ms = max(self._plan.end_ms, end_ms)
            yield from self._send_chunks(now_ms, request, chunks, workers, urgent=False)
            self._ledger.enqueue(request)
        if not workers:  # all replicas are kept for suspects: the next event makes a plan
            self._plan.version = -1

    def _workers(self, now_ms: float, pools: list[PoolState], most: int) -> list[Worker]:
        """The replicas for a plan; unknown ones get a small budget, so that they are soon known."""
        n_all = sum(len(pool.slots) for pool in pools)
        rate = sum(pool.total_rate for pool in pools)
        time_ms = self._ledger.waiting_ms / rate if rate else 0.0
        workers = [w for pool in pools for w in pool.workers(now_ms, most, n_all, time_ms)]
        gives_way = self._gives_way(now_ms)
        for worker in workers:
            pool = self._ledger.pools[worker.pool]
            worker.budget_ms = chunk_budget_ms(pool, gives_way=gives_way)
            if rate and worker.doubt > DOUBT:
                probe_ms = max(PROBE_OVERHEADS * worker.overhead_ms, PROBE_PART * time_ms)
                worker.budget_ms = min(worker.budget_ms, max(1, int(probe_ms / worker.slope)))
        return workers

    def _send_chunks(
        self,
        now_ms: float,
        request: Request,
        chunks: list[PlannedChunk],
        workers: list[Worker],
        *,
        urgent: bool,
    ) -> Iterator[Order]:
        """Sends the chunks for which there is room; others than urgent ones stay in the plan."""
        window = request.backlog.window
        last = {chunk.worker: chunk for chunk in chunks}
        todo = [
            (workers[c.worker], tuple(window[c.first : c.stop]), last[c.worker] is c)
            for c in sorted(chunks, key=lambda chunk: chunk.start_ms)
        ]
        for worker, part, is_last in todo:
            pool, slot_number = self._ledger.pools[worker.pool], worker.slot_number
            planned = Planned(request.name, part, is_last)
            padded_ms = planned.padded_ms
            if (
                pool.has_room(slot_number, batches=URGENT_BATCHES, padded_ms=padded_ms)
                if urgent
                else self._may_send(now_ms, pool, slot_number, planned)
            ):
                yield self._send(now_ms, request, pool, part, slot_number)
            elif not urgent:
                self._plan.lanes.setdefault((worker.pool, slot_number), deque()).append(planned)

    def _send(
        self, now_ms: float, request: Request, pool: PoolState, part: Part, slot_number: int
    ) -> Order:
        first = request.backlog.find(-part[0][0], part[0][1])
        bounds = (first, first + len(part))
        return self._ledger.send_part(now_ms, request, pool, bounds, slot_number)

    def _may_send(self, now_ms: float, pool: PoolState, slot_number: int, planned: Planned) -> bool:
        """Whether a planned chunk goes out now. Some wait until their replica is idle.

        A chunk that waits can still be given to another replica, but its own is idle for a round
        trip. Waiting pays for a replica's last chunk, and for any chunk of an unknown replica, if
        the time at which it would end is uncertain by more than a round trip.
        """
        padded_ms = planned.padded_ms
        batches = most_batches(gives_way=self._gives_way(now_ms))
        if not pool.has_room(slot_number, batches=batches, padded_ms=padded_ms):
            return False
        if pool.is_idle(slot_number):
            return True
        if not (planned.is_last or pool.is_unknown(padded_ms, slot_number)):
            return True
        return pool.error_ms(now_ms, padded_ms, slot_number) < self._round_trip_ms

    # -- what interactive requests change for the others

    def _gives_way(self, now_ms: float) -> bool:
        """Whether interactive requests come, so that the others must leave room for them."""
        return now_ms - self._interactive_seen_ms < INTERACTIVE_MS


def _occupy(workers: list[Worker], chunks: list[PlannedChunk]) -> None:
    """Lets the workers be free only after the chunks that were planned for them."""
    for chunk in chunks:
        worker = workers[chunk.worker]
        worker.free_ms = max(worker.free_ms, chunk.end_ms)


def _first_workers(
    now_ms: float, pool: PoolState, most: int, later: dict[str, list[Worker]]
) -> list[Worker]:
    """The pool's first workers, occupied by the requests that were planned before.

    `later` holds each pool's workers from one request to the next.
    """
    known = later.get(pool.spec.name)
    if known is None or len(known) < min(most, max(1, pool.n_replicas)):
        known = later[pool.spec.name] = pool.workers(now_ms, max(most, 8))
    return known
