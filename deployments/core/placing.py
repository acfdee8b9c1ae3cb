"""Which waiting segments go to which pool now (DESIGN 3)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

from deployments.core.backlog import Request
from deployments.core.events import Order
from deployments.core.ledger import Ledger
from deployments.core.planning import Chunk, Worker, most_efficient, plan
from deployments.core.pools import OUTSTANDING_BATCHES, URGENT_BATCHES, PoolState
from deployments.core.retrying import send_again
from deployments.core.speeds import DOUBT

WINDOW_BATCHES = 8  # of the largest pool, at the least
WINDOW_TIME_MS = 5_000.0  # a fast cluster's window takes so long: wider ones pad less
WINDOW_ROUNDS = 3  # batches for every replica, at the least
BULK_ROUNDS = 2.5  # more waits than so many full chunks for every replica: no plan is needed
REPLAN = 0.10  # a plan is made anew after this part of its time
REPLAN_UNEVEN = 0.02  # and after this part if a replica has nothing while work waits for another
PLAN_REST_MS = 0.05  # for every replica between two plans: one costs about a fifth of that
START_PAYS = 2.0  # a pool at zero is started where all takes so many times as long as its start
PROBE_OVERHEADS = 4  # an unknown replica's chunk is of so many at the least, or of a quarter of all
SMALL = 0.5  # of a chunk's budget, for the others while interactive requests come
INTERACTIVE_MS = 10_000.0  # so long after the last of them
LEAST_WORKERS = 32  # of each pool in a plan, or as many as there are segments
MOST_INTERACTIVE = 16  # requests looked at in one event

Lane: TypeAlias = tuple[str, int]  # a pool, and a slot of it or 0

# request, entries of its window, whether the replica gets nothing after it
Planned: TypeAlias = tuple[str, tuple[tuple[int, int], ...], bool]


@dataclass(slots=True)
class Plan:
    """What is to be sent when pools have room again."""

    version: int = -1
    made_ms: float = 0.0
    end_ms: float = -1.0
    chunks: dict[Lane, deque[Planned]] = field(default_factory=dict)


class Placing:
    """Chooses; the ledger carries out."""

    def __init__(self, ledger: Ledger, *, round_trip_ms: float) -> None:
        self._ledger = ledger
        self._round_trip_ms = round_trip_ms
        self._plan = Plan()
        self._interactive_seen_ms = -INTERACTIVE_MS

    def dispatch(self, now_ms: float) -> Iterator[Order]:
        """Orders for every free place: retries, interactive requests, the others by fair share."""
        for pool in self._ledger.pools.values():
            pool.kept.clear()
        if not (self._ledger.retrying or self._ledger.interactive or self._ledger.others):
            return
        pools = self._ledger.usable()
        if not any(pool.has_room(batches=URGENT_BATCHES) for pool in pools):
            return
        if self._ledger.retrying:
            yield from send_again(now_ms, self._ledger, pools)
        if self._ledger.interactive:
            self._interactive_seen_ms = now_ms
            yield from self._send_interactive(now_ms, pools)
        if self._ledger.others:
            yield from self._send_others(now_ms, pools)

    def _send_interactive(self, now_ms: float, pools: list[PoolState]) -> Iterator[Order]:
        """Each where it is done first, what those before it will take counted in."""
        later: dict[str, list[Worker]] = {}
        for request in list(self._ledger.interactive.values())[:MOST_INTERACTIVE]:
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
                del self._ledger.interactive[request.name]
            if not any(pool.has_room(batches=URGENT_BATCHES) for pool in pools):
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
        batches = URGENT_BATCHES if urgent else self._batches(now_ms)
        first_ones_first = sorted(chunks, key=lambda chunk: chunk.begin_ms)
        last_ones = {c.worker: c for c in chunks}
        parts = [
            (workers[c.worker], tuple(window[c.start : c.stop]), last_ones[c.worker] is c)
            for c in first_ones_first
        ]
        for worker, part, last in parts:
            pool, slot = self._ledger.pools[worker.pool], worker.slot
            padded_ms = -part[0][0] * len(part)
            held = not urgent and self._held(now_ms, pool, slot, padded_ms, last=last)
            if not held and pool.has_room(batches=batches, padded_ms=padded_ms, slot=slot):
                start = request.backlog.find(-part[0][0], part[0][1])
                stop = start + len(part)
                yield self._ledger.send_part(now_ms, request, pool, start, stop, slot)
            elif not urgent:
                lane = self._plan.chunks.setdefault((worker.pool, slot), deque())
                lane.append((request.name, part, last))

    def _send_others(self, now_ms: float, pools: list[PoolState]) -> Iterator[Order]:
        rate = sum(pool.total_rate for pool in pools)
        full_ms = sum(pool.full_chunk_ms * pool.total_rate for pool in pools) / rate if rate else 0
        if rate and self._ledger.waiting_ms / rate > BULK_ROUNDS * full_ms:
            self._plan = Plan()
            sent_ms = sum(pool.work_ms * pool.rate for pool in pools if pool.slots)
            end_ms = now_ms + (self._ledger.waiting_ms + sent_ms) / rate
            yield from self._send_bulk(now_ms, pools, end_ms)
            if self._ledger.orders:
                return
        # All of them may be too slow for the longest segment, each as one of many.
        yield from self._send_planned(now_ms, pools)

    def _send_bulk(
        self, now_ms: float, pools: list[PoolState], horizon_ms: float
    ) -> Iterator[Order]:
        """A full chunk for every place; the faster the pool, the longer its segments."""
        total = sum(pool.total_rate for pool in pools)
        batches = self._batches(now_ms)
        faster = 0.0
        for pool in pools:
            start_ms = pool.spec.start_ms + pool.full_chunk_ms
            pays = bool(pool.slots) or horizon_ms > now_ms + START_PAYS * start_ms
            for slot in pool.with_room(batches) if pays else ():
                if not pool.is_idle(slot) and pool.is_unknown(pool.spec.batch_audio_ms, slot):
                    continue  # what it has may take twice as long as thought
                request = self._ledger.pop_other()
                if request is None:
                    return
                self._fill_window(request, pools)
                worker = pool.worker(now_ms, slot)
                part = self._bulk_part(now_ms, request, pool, worker, faster / total, horizon_ms)
                if part is not None:
                    yield self._ledger.send_part(now_ms, request, pool, *part, slot)
                self._ledger.enqueue(request)
            faster += pool.total_rate

    def _bulk_part(
        self,
        now_ms: float,
        request: Request,
        pool: PoolState,
        worker: Worker,
        place: float,
        horizon_ms: float,
    ) -> tuple[int, int] | None:
        """Which part of the request's window is the worker's next chunk; None: too slow by now."""
        window = request.backlog.window
        time_ms = (horizon_ms - worker.free_ms) / 2
        in_time_ms = int((time_ms - worker.overhead_ms) / worker.slope)
        budget_ms = min(self._budget_ms(now_ms, pool, worker.slot), in_time_ms)
        start = min(int(place * len(window)), len(window) - 1)
        while start and (len(window) - start + 1) * -window[start - 1][0] <= budget_ms:
            start -= 1
        if -window[start][0] > 2 * in_time_ms:
            return None
        most = max(1, budget_ms // -window[-1][0])
        lengths_ms = [-negative for negative, _ in window[start : start + most]]
        n = most_efficient(
            lengths_ms,
            0,
            overhead_ms=worker.overhead_ms,
            slope=worker.slope,
            budget_ms=budget_ms,
        )
        return start, start + n

    def _send_planned(self, now_ms: float, pools: list[PoolState]) -> Iterator[Order]:
        made = self._plan
        age_ms, time_ms = now_ms - made.made_ms, made.end_ms - made.made_ms
        rest_ms = PLAN_REST_MS * sum(pool.n_replicas for pool in pools)
        stale = age_ms > max(REPLAN * time_ms, rest_ms)
        if stale or made.version != self._ledger.version:
            yield from self._make_plan(now_ms, pools)
        else:
            yield from self._follow_plan(now_ms)
            if age_ms > max(REPLAN_UNEVEN * time_ms, rest_ms) and self._is_uneven(pools):
                yield from self._make_plan(now_ms, pools)

    def _is_uneven(self, pools: list[PoolState]) -> bool:
        """Whether one replica has planned work that waits for it while another has nothing."""
        some = any(queue and slot for (_, slot), queue in self._plan.chunks.items())
        return some and any(pool.has_names and pool.is_idle() for pool in pools)

    def _follow_plan(self, now_ms: float) -> Iterator[Order]:
        batches = self._batches(now_ms)
        for (pool_name, slot), queue in self._plan.chunks.items():
            pool = self._ledger.pools[pool_name]
            while queue:
                name, part, last = queue[0]
                padded_ms = -part[0][0] * len(part)
                if self._held(now_ms, pool, slot, padded_ms, last=last):
                    break
                if not pool.has_room(batches=batches, padded_ms=padded_ms, slot=slot):
                    break
                queue.popleft()
                request = self._ledger.requests.get(name)
                if request is None:
                    continue
                start = request.backlog.find(-part[0][0], part[0][1])
                stop = start + len(part)
                yield self._ledger.send_part(now_ms, request, pool, start, stop, slot)

    def _make_plan(self, now_ms: float, pools: list[PoolState]) -> Iterator[Order]:
        """Plans every request in turn upon those before it, and sends what has room."""
        self._plan = Plan(self._ledger.version, made_ms=now_ms)
        n_all = sum(len(pool.slots) for pool in pools)
        rate = sum(pool.total_rate for pool in pools)
        time_ms = self._ledger.waiting_ms / rate if rate else 0.0
        requests = []
        while request := self._ledger.pop_other():
            requests.append(request)
        most = max(LEAST_WORKERS, sum(len(request.backlog.members) for request in requests))
        workers = [w for pool in pools for w in pool.workers(now_ms, most, n_all, time_ms)]
        for worker in workers:
            pool = self._ledger.pools[worker.pool]
            worker.budget_ms = self._budget_ms(now_ms, pool)
            if rate and worker.doubt > DOUBT:  # a first chunk that cannot cost much
                least_ms = max(PROBE_OVERHEADS * worker.overhead_ms, time_ms / 4)
                probe_ms = max(1, int(least_ms / worker.slope))
                worker.budget_ms = min(worker.budget_ms, probe_ms)
        for request in requests:
            request.backlog.refill(float("inf"), float("inf"))
            end_ms, chunks = plan(now_ms, request.backlog.lengths_ms(), workers)
            for chunk in chunks:
                workers[chunk.worker].free_ms = max(workers[chunk.worker].free_ms, chunk.end_ms)
            self._plan.end_ms = max(self._plan.end_ms, end_ms)
            yield from self._send_chunks(now_ms, request, chunks, workers, urgent=False)
            self._ledger.enqueue(request)
        if not workers:  # suspects have them all: planned anew with the next event
            self._plan.version = -1

    def _held(
        self, now_ms: float, pool: PoolState, slot: int, padded_ms: int, *, last: bool
    ) -> bool:
        """Whether a chunk waits until its replica has nothing else.

        It may then still go to another, but the replica is idle until the order arrives: that
        pays for the last one, and for any behind the first of a replica that nobody knows, where
        the error of the time when it is done is the larger.
        """
        if pool.is_idle(slot) or not (last or pool.is_unknown(padded_ms, slot)):
            return False
        return pool.error_ms(now_ms, padded_ms, slot) >= self._round_trip_ms

    def _fill_window(self, request: Request, pools: list[PoolState]) -> None:
        batch_ms = max(pool.spec.batch_audio_ms for pool in pools)
        round_ms = sum(pool.spec.batch_audio_ms * pool.n_replicas for pool in pools)
        in_time_ms = WINDOW_TIME_MS * sum(pool.total_rate for pool in pools)
        window_ms = max(WINDOW_BATCHES * batch_ms, WINDOW_ROUNDS * round_ms, in_time_ms)
        request.backlog.refill(window_ms, batch_ms)

    def _gives_way(self, now_ms: float) -> bool:
        """Whether interactive requests come, so that the others must not be in their way."""
        return now_ms - self._interactive_seen_ms < INTERACTIVE_MS

    def _budget_ms(self, now_ms: float, pool: PoolState, slot: int = 0) -> int:
        """A chunk's budget for requests that are not interactive.

        An unknown replica is known sooner, and nobody waits long behind it, if its chunk is small.
        """
        full_ms = pool.spec.batch_audio_ms
        is_unknown = slot and pool.is_unknown(full_ms, slot)
        return int(full_ms * (SMALL if is_unknown or self._gives_way(now_ms) else 1.0))

    def _batches(self, now_ms: float) -> int:
        """How many of their chunks a replica may have."""
        return 1 if self._gives_way(now_ms) else OUTSTANDING_BATCHES


def _fresh(
    now_ms: float, pool: PoolState, most: int, later: dict[str, list[Worker]]
) -> list[Worker]:
    """The pool's first workers, with what this round's earlier requests will take of them."""
    known = later.get(pool.spec.name)
    if known is None or len(known) < min(most, max(1, pool.n_replicas)):
        known = later[pool.spec.name] = pool.workers(now_ms, max(most, 8))
    return known
