"""Copies of chunks that end too late: computed a second time by replicas that are idle.

A plan for many replicas ends with its unluckiest chunk: on a replica that is slower than thought,
or that hangs. Idle replicas compute such a chunk again, in parts. The first answer to a segment
counts (DESIGN, Late chunks).
"""

from __future__ import annotations

from collections.abc import Generator, Iterator

from deployments.core.scheduler.events import Order
from deployments.core.scheduler.ledger import Ledger
from deployments.core.scheduler.planning import Worker, plan
from deployments.core.scheduler.slots import Place, remaining_ms

LATE_MS = 200.0  # late: past its expected end by this, or by half its duration if that is more
MOST_ORDERS = 128  # with more open orders the end of the work is not near
MOST_IDLE = 16  # idle replicas of each pool that are looked at
MOST_FAILED = 4  # late orders that no idle replica could end sooner, before the rest is left alone
GAIN = 0.8  # a copy must be done within this part of the time that its order still needs


def send_copies(
    now_ms: float, ledger: Ledger, *, round_trip_ms: float, also_late: bool
) -> Iterator[Order]:
    """Copies the orders with most time left, longest first, while idle replicas end them sooner.

    All orders are looked at once nothing waits and nothing is still to be submitted: until then
    idle replicas will be needed for new work. With `also_late`, which ticks set, late orders are
    looked at in any case.
    `round_trip_ms` is how long a replica stays idle after an order was sent to it.
    """
    all_of_them = _nothing_is_to_come(ledger)
    if not (all_of_them or also_late):
        return
    candidates = sorted(_candidates(now_ms, ledger, all_of_them=all_of_them), reverse=True)
    if not candidates:
        return
    idle = [w for pool in ledger.usable() for w in pool.idle_workers(now_ms, MOST_IDLE)]
    n_failed = 0
    for needs_ms, number, is_late in candidates:
        if not idle or n_failed >= MOST_FAILED:
            return
        within_ms = GAIN * needs_ms - round_trip_ms
        used = yield from _copy(now_ms, ledger, number, within_ms, idle)
        if not used and not is_late:  # orders that need less time would gain less
            return
        n_failed += not used
        idle = [worker for i, worker in enumerate(idle) if i not in used]


def _candidates(
    now_ms: float, ledger: Ledger, *, all_of_them: bool
) -> Iterator[tuple[float, int, bool]]:
    """Orders that may be copied: the time that each still needs, its number, whether it is late.

    Noise is counted in: one standard deviation of the order's time.
    """
    for number, sent in ledger.orders.items():
        pool = ledger.pools[sent.order.pool]
        place = pool.outstanding[number]
        is_late = _is_late(now_ms, place)
        is_looked_at = is_late or (all_of_them and place.slot is not None)
        if not is_looked_at or not _may_copy(ledger, sent.order):
            continue
        speed = pool.speed if place.slot is None else place.slot.speed
        noise_ms = speed.spread(place.padded_ms) * place.work_ms
        yield remaining_ms(now_ms, place.end_ms) + noise_ms, number, is_late


def _nothing_is_to_come(ledger: Ledger) -> bool:
    if ledger.waiting_ms or len(ledger.orders) > MOST_ORDERS:
        return False
    return not any(request.coming_ms for request in ledger.requests.values())


def _is_late(now_ms: float, place: Place) -> bool:
    return now_ms > place.end_ms + max(LATE_MS, place.work_ms / 2)


def _may_copy(ledger: Ledger, order: Order) -> bool:
    """Not an order that was copied before, and not a suspect: it might kill another replica."""
    request = ledger.requests.get(order.request)
    if request is None or request.suspect == order.order:
        return False
    return not ledger.is_copied(order)


def _copy(
    now_ms: float, ledger: Ledger, number: int, within_ms: float, idle: list[Worker]
) -> Generator[Order, None, set[int]]:
    """Sends the order again, in parts, if that is done in time; returns which workers have one."""
    sent = ledger.orders[number]
    request = ledger.requests[sent.order.request]
    longest_first = sorted(
        zip(sent.lengths_ms, sent.order.segments, strict=True), key=lambda pair: -pair[0]
    )
    end_ms, chunks = plan(now_ms, [length_ms for length_ms, _ in longest_first], idle)
    used = {chunk.worker for chunk in chunks}
    if end_ms - now_ms > within_ms or len(used) < len(chunks):
        return set()
    for chunk in chunks:
        worker = idle[chunk.worker]
        lengths_ms, segments = zip(*longest_first[chunk.first : chunk.stop], strict=True)
        pool = ledger.pools[worker.pool]
        if pool.has_room(worker.slot_number, batches=1):  # orders without a slot may fill the pool
            yield ledger.copy(now_ms, request, pool, segments, lengths_ms, worker.slot_number)
    return used
