"""Where chunks that were lost are sent again (DESIGN, Losses)."""

from __future__ import annotations

from collections.abc import Iterator

from deployments.core.scheduler.backlog import Retry
from deployments.core.scheduler.events import Order
from deployments.core.scheduler.ledger import Ledger
from deployments.core.scheduler.pools import URGENT_BATCHES, PoolState


def send_again(now_ms: float, ledger: Ledger, pools: list[PoolState]) -> Iterator[Order]:
    """Orders for the retries of every request; of each request at most one suspect is open."""
    for name, request in list(ledger.retrying.items()):
        left: list[Retry] = []
        suspect_is_open = request.suspect in ledger.orders
        for retry in request.retries:
            found = None if retry.suspect and suspect_is_open else _place(now_ms, retry, pools)
            suspect_is_open |= retry.suspect
            if found is None:
                left.append(retry)
                continue
            ledger.waiting_ms -= sum(retry.lengths_ms)
            pool, slot_number = found
            segments, lengths_ms = retry.segments, retry.lengths_ms
            order = ledger.send(now_ms, request, pool, segments, lengths_ms, slot_number)
            if retry.suspect:
                request.suspect = order.order
                pool.isolate(order.order)
            yield order
        request.retries = left
        if not left:
            del ledger.retrying[name]


def _place(now_ms: float, retry: Retry, pools: list[PoolState]) -> tuple[PoolState, int] | None:
    """The pool and slot where the retry is done first; if possible not where it was lost.

    A suspect needs a replica without any order. The best one is kept, which means that it gets no
    further orders until it is free for the suspect. A suspect is never sent to a pool at zero,
    where other orders could be with the replica that starts.
    """
    padded_ms = len(retry.segments) * max(retry.lengths_ms)
    found: list[tuple[bool, bool, bool, bool, float, int, int]] = []
    for index, pool in enumerate(pools):
        slot_number = _slot_for(now_ms, retry, pool, padded_ms)
        if slot_number is None:
            continue
        must_wait = retry.suspect and not pool.is_clear(now_ms, slot_number)
        fits = padded_ms <= pool.spec.batch_audio_ms or len(retry.segments) == 1
        replica = pool.replica_of(slot_number)
        same_replica = bool(replica) and replica == retry.avoid_replica
        same_pool = pool.spec.name == retry.avoid_pool
        worker = pool.worker(now_ms, slot_number)
        end_ms = worker.free_ms + worker.overhead_ms + padded_ms * worker.slope
        found.append((must_wait, not fits, same_replica, same_pool, end_ms, index, slot_number))
    if not found:
        return None
    must_wait, *_, index, slot_number = min(found)
    if not must_wait:
        return pools[index], slot_number
    if not pools[index].is_idle(slot_number):
        pools[index].kept.add(slot_number)
    return None


def _slot_for(now_ms: float, retry: Retry, pool: PoolState, padded_ms: int) -> int | None:
    """The pool's slot for the retry; None if the pool has none."""
    if retry.suspect:
        return pool.first_to_keep(now_ms, avoid=retry.avoid_replica)
    return pool.first_with_room(now_ms, URGENT_BATCHES, padded_ms, avoid=retry.avoid_replica)
