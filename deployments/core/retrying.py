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
        for retry in request.retries:
            found = _place(now_ms, retry, pools)
            if found is None or (retry.suspect and request.suspect in ledger.orders):
                left.append(retry)
                continue
            ledger.waiting_ms -= sum(retry.lengths_ms)
            pool, slot = found
            order = ledger.send(now_ms, request, pool, retry.segments, retry.lengths_ms, slot)
            if retry.suspect:
                request.suspect = order.order
            yield order
        request.retries = left
        if not left:
            del ledger.retrying[name]


def _place(now_ms: float, retry: Retry, pools: list[PoolState]) -> tuple[PoolState, int] | None:
    """Where the chunk is done first; where it can, in another replica and pool than before."""
    padded_ms = len(retry.segments) * max(retry.lengths_ms)
    found: list[tuple[bool, bool, bool, float, int, int]] = []
    for index, pool in enumerate(pools):
        fits = padded_ms <= pool.spec.batch_audio_ms or len(retry.segments) == 1
        slot = pool.first_with_room(URGENT_BATCHES, padded_ms, avoid=retry.avoid_replica)
        if slot is not None:
            same = pool.is_of(slot, retry.avoid_replica)
            worker = pool.worker(now_ms, slot)
            end_ms = worker.free_ms + worker.overhead_ms + padded_ms * worker.slope
            found.append((not fits, same, pool.spec.name == retry.avoid, end_ms, index, slot))
    if not found:
        return None
    *_, index, slot = min(found)
    return pools[index], slot
