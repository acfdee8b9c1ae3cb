"""Chunks for every replica while so much waits that no plan is needed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from deployments.core.scheduler.backlog import Request
from deployments.core.scheduler.budgets import chunk_budget_ms, most_batches
from deployments.core.scheduler.events import Order
from deployments.core.scheduler.ledger import Ledger
from deployments.core.scheduler.planning import Worker, most_efficient
from deployments.core.scheduler.pools import PoolState

START_PAYS = 2.0  # a pool at zero gets a chunk if all work takes this many times its start
# A request's window, from which the longest segments are sent first, is the largest of these.
WINDOW_BATCHES = 8  # full batches of the pool with the largest budget
WINDOW_ROUNDS = 3  # full batches for every replica
WINDOW_TIME_MS = 5_000.0  # of work for the whole cluster; a wider window has less padding


def send_bulk(
    now_ms: float, ledger: Ledger, pools: list[PoolState], *, horizon_ms: float, gives_way: bool
) -> Iterator[Order]:
    """A full chunk for every replica with room, all of which have work until the horizon.

    `pools` come fastest first. The faster a pool, the longer the segments that it gets.
    """
    total = sum(pool.total_rate for pool in pools)
    batches = most_batches(gives_way=gives_way)
    faster = 0.0  # the rate of the pools before this one
    for pool in pools:
        start_ms = pool.spec.start_ms + pool.full_chunk_ms
        pays = bool(pool.slots) or horizon_ms > now_ms + START_PAYS * start_ms
        for slot_number in pool.with_room(batches) if pays else ():
            full_ms = pool.spec.batch_audio_ms
            if not pool.is_idle(slot_number) and pool.is_unknown(full_ms, slot_number):
                continue  # the chunk that it has may take twice as long as thought
            request = ledger.pop_other()
            if request is None:
                return
            _fill_window(request, pools)
            worker = pool.worker(now_ms, slot_number)
            budget_ms = chunk_budget_ms(pool, slot_number, gives_way=gives_way)
            time_ms = (horizon_ms - worker.free_ms) / 2
            part = _part(request.backlog.window, worker, faster / total, budget_ms, time_ms)
            if part is not None:
                yield ledger.send_part(now_ms, request, pool, part, slot_number)
            ledger.enqueue(request)
        faster += pool.total_rate


def _part(
    window: Sequence[tuple[int, int]],
    worker: Worker,
    faster: float,
    budget_ms: int,
    time_ms: float,
) -> tuple[int, int] | None:
    """The part of the window that is the worker's next chunk; None if the worker is too slow.

    `time_ms` is how long the chunk may take: half of the time until the horizon. `faster` is the
    part of the cluster's rate that faster pools have. The window is sorted by length, so skipping
    that part of it leaves the longest segments to the faster pools.
    """
    in_time_ms = int((time_ms - worker.overhead_ms) / worker.slope)
    budget_ms = min(budget_ms, in_time_ms)
    first = min(int(faster * len(window)), len(window) - 1)
    while first and (len(window) - first + 1) * -window[first - 1][0] <= budget_ms:
        first -= 1
    if -window[first][0] > 2 * in_time_ms:
        return None
    most = max(1, budget_ms // -window[-1][0])
    n = most_efficient(
        [-negative for negative, _ in window[first : first + most]],
        0,
        overhead_ms=worker.overhead_ms,
        slope=worker.slope,
        budget_ms=budget_ms,
    )
    return first, first + n


def _fill_window(request: Request, pools: list[PoolState]) -> None:
    batch_ms = max(pool.spec.batch_audio_ms for pool in pools)
    round_ms = sum(pool.spec.batch_audio_ms * pool.n_replicas for pool in pools)
    in_time_ms = WINDOW_TIME_MS * sum(pool.total_rate for pool in pools)
    window_ms = max(WINDOW_BATCHES * batch_ms, WINDOW_ROUNDS * round_ms, in_time_ms)
    request.backlog.refill(window_ms, batch_ms)
