"""Where a chunk that was lost with its replica goes (DESIGN 11)."""

from __future__ import annotations

from collections.abc import Iterator

from deployments.core.backlog import Retry
from deployments.core.events import Order
from deployments.core.ledger import Ledger
from deployments.core.pools import URGENT_BATCHES, PoolState


def send_again(now_ms: float, ledger: Ledger, pools: list[PoolState]) -> Iterator[Order]:
    """Orders for the lost chunks of every request; of one request's suspects, one at a time."""
    for name, request in list(ledger.retrying.items()):
        left: list[Retry] = []
        suspected = request.suspect in ledger.orders
        for retry in request.retries:
            found = None if retry.suspect and suspected else _place(now_ms, retry, pools)
            suspected |= retry.suspect
            if found is None:
                left.append(retry)
                continue
            ledger.waiting_ms -= sum(retry.lengths_ms)
            pool, slot = found
            order = ledger.send(now_ms, request, pool, retry.segments, retry.lengths_ms, slot)
            if retry.suspect:
                request.suspect = order.order
                pool.isolate(order.order)
            yield order
        request.retries = left
        if not left:
            del ledger.retrying[name]


def _place(now_ms: float, retry: Retry, pools: list[PoolState]) -> tuple[PoolState, int] | None:
    """Where the chunk is done first; where it can, in another replica and pool than before.

    A suspect's replica must have nothing else: it is kept until then. Where none runs, what is sent
    may all go to the first that starts, so a suspect waits for that.
    """
    padded_ms = len(retry.segments) * max(retry.lengths_ms)
    found: list[tuple[bool, bool, bool, bool, float, int, int]] = []
    for index, pool in enumerate(pools):
        fits = padded_ms <= pool.spec.batch_audio_ms or len(retry.segments) == 1
        if retry.suspect and pool.will_have_names:
            continue
        if retry.suspect and pool.has_names:
            slot = pool.first_to_keep(now_ms, avoid=retry.avoid_replica)
        else:
            slot = pool.first_with_room(
                now_ms, URGENT_BATCHES, padded_ms, avoid=retry.avoid_replica
            )
        if slot is not None:
            waits = bool(retry.suspect and slot and not pool.is_clear(now_ms, slot))
            same = pool.is_of(slot, retry.avoid_replica)
            worker = pool.worker(now_ms, slot)
            end_ms = worker.free_ms + worker.overhead_ms + padded_ms * worker.slope
            same_pool = pool.spec.name == retry.avoid
            found.append((waits, not fits, same, same_pool, end_ms, index, slot))
    if not found:
        return None
    waits, *_, index, slot = min(found)
    if waits and not pools[index].is_idle(slot):
        pools[index].kept.add(slot)
    return None if waits else (pools[index], slot)
