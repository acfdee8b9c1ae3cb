"""What is under way at the end is done again by replicas that have nothing to do (DESIGN 3).

A plan for many replicas ends with the unluckiest of them: one whose speed was guessed wrong,
or whose last chunk took longer than such chunks do. When nothing waits, the chunks that will end
last are cut up among idle replicas if that ends much earlier; the first answer counts. Only where
an order can name its replica: else it may go to the very one that is late.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator

from deployments.core.events import Order
from deployments.core.ledger import Ledger
from deployments.core.planning import Worker, plan

MOST_ORDERS = 128  # with more under way it is not the end
MOST_IDLE = 16  # of each pool
GAIN = 0.8  # of the time that is left: a copy must be done by then


def rescue(now_ms: float, ledger: Ledger, *, round_trip_ms: float) -> Iterator[Order]:
    """The chunks that end last once more, in parts, by idle replicas; not while work is to come.

    `round_trip_ms`: so long an idle replica has nothing after it was sent something.
    """
    if ledger.waiting_ms or not 0 < len(ledger.orders) <= MOST_ORDERS:
        return
    if any(request.coming_ms for request in ledger.requests.values()):  # idle ones will be needed
        return
    pools = [pool for pool in ledger.usable() if pool.has_names]
    idle = [worker for pool in pools for worker in pool.idle_workers(now_ms, MOST_IDLE)]
    if not idle:
        return
    for left_ms, number in sorted(_left(now_ms, ledger), reverse=True):
        in_ms = GAIN * left_ms - round_trip_ms
        used = yield from _copy(now_ms, ledger, number, in_ms, idle)
        if not used:  # those that end earlier gain less
            return
        idle = [worker for i, worker in enumerate(idle) if i not in used]


def _left(now_ms: float, ledger: Ledger) -> Iterator[tuple[float, int]]:
    """How long every order that may be copied will take yet."""
    for number, sent in ledger.orders.items():
        place = ledger.pools[sent.order.pool].outstanding[number]
        if place.slot is not None and ledger.may_copy(sent.order):
            over_ms = now_ms - place.begin_ms - place.work_ms
            left_ms = over_ms / 2 if over_ms > 0 else -over_ms
            yield left_ms + place.slot.speed.spread(place.padded_ms) * place.work_ms, number


def _copy(
    now_ms: float, ledger: Ledger, number: int, in_ms: float, idle: list[Worker]
) -> Generator[Order, None, set[int]]:
    """Sends the order's segments again if they are done in so long; returns who has them."""
    sent = ledger.orders[number]
    request = ledger.requests.get(sent.order.request)
    if request is None or not idle:
        return set()
    longest_first = sorted(
        zip(sent.lengths_ms, sent.order.segments, strict=True), key=lambda pair: -pair[0]
    )
    end_ms, chunks = plan(now_ms, [length_ms for length_ms, _ in longest_first], idle)
    used = {chunk.worker for chunk in chunks}
    if end_ms - now_ms > in_ms or len(used) < len(chunks):
        return set()
    for chunk in chunks:
        worker = idle[chunk.worker]
        lengths_ms, segments = zip(*longest_first[chunk.start : chunk.stop], strict=True)
        pool = ledger.pools[worker.pool]
        if pool.has_room(batches=1, slot=worker.slot):
            yield ledger.copy(now_ms, request, pool, segments, lengths_ms, worker.slot)
    return used
