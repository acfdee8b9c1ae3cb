"""What becomes of segments whose chunk was lost (DESIGN, Losses).

A chunk is lost because its replica died, because the call timed out, or because the replica
answered that it could recognise nothing. The cause may be the machine or one of the segments, and
nobody says which. So:

- The first loss is held against the replica. The segments are planned anew.
- A segment that was lost twice is a suspect. It is sent alone to a replica that has no other
  order, and of one request only one suspect at a time.
- A segment whose second or later loss happened on a replica without other orders is to blame, and
  is given up.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from deployments.core.scheduler.backlog import Request, Retry, Segments
from deployments.core.scheduler.events import GiveUp, Lost
from deployments.core.scheduler.ledger import Ledger

SUSPECT_LOSSES = 2  # from so many losses on, a segment is a suspect
MOST_LOSSES = 4  # with so many a suspect is given up, even if it was never alone


def lose(now_ms: float, ledger: Ledger, event: Lost) -> Iterator[GiveUp]:
    """Takes the report of a lost order; yields the segments that are given up.

    With a replica that died, all its orders are lost. They are swept: taken for lost at once,
    because the reports of some may come only when the replica is replaced.
    """
    swept = ledger.swept.pop(event.order, None)
    if swept is None and event.order not in ledger.orders:
        return
    if swept is not None and not event.replica_lives:
        _note_death(now_ms, ledger, swept.pool, event.replica)
        _blame(ledger.requests.get(swept.request), swept.segments)
    if event.order in ledger.orders:
        yield from _lose(now_ms, ledger, event, is_reported=True)
    if event.replica and not event.replica_lives:
        yield from _sweep(now_ms, ledger, event)


def _sweep(now_ms: float, ledger: Ledger, event: Lost) -> Iterator[GiveUp]:
    """Takes all other orders of the dead replica for lost."""
    mine = {n: s.order for n, s in ledger.orders.items() if s.order.replica == event.replica}
    ledger.swept = {n: o for n, o in ledger.swept.items() if o.request in ledger.requests} | mine
    for number in mine:
        yield from _lose(now_ms, ledger, replace(event, order=number), is_reported=False)


def _lose(now_ms: float, ledger: Ledger, event: Lost, *, is_reported: bool) -> Iterator[GiveUp]:
    """Closes one lost order and lets its segments wait again.

    Only a reported loss counts against the segments. A swept order may not have reached the
    replica yet; its own report counts when it comes.
    """
    sent = ledger.orders[event.order]
    order, pool = sent.order, ledger.pools[sent.order.pool]
    place = pool.outstanding[event.order]
    another_died = event.replica not in ("", order.replica) and not event.replica_lives
    was_alone = is_reported and pool.has_alone(event.order) and not another_died
    if not event.replica_lives:
        of_slot = place.slot.replica if place.slot is not None else ""
        _note_death(now_ms, ledger, order.pool, event.replica or of_slot)
    lost = ledger.close(now_ms, event.order)
    request = ledger.requests.get(order.request)
    if request is None or not lost:
        return
    all_ms = dict(zip(order.segments, sent.lengths_ms, strict=True))
    lengths_ms = {s: all_ms[s] for s in lost}
    if is_reported:
        _blame(request, lost)
    lives = (event.replica or order.replica) if event.replica_lives else None
    given_up = _wait_again(request, lengths_ms, order.pool, lives=lives, was_alone=was_alone)
    ledger.version += 1
    ledger.waiting_ms += sum(ms for s, ms in lengths_ms.items() if s not in given_up)
    ledger.enqueue(request)
    if given_up:
        yield GiveUp(order.request, given_up)


def _note_death(now_ms: float, ledger: Ledger, pool: str, replica: str) -> None:
    if replica and ledger.pools[pool].died(now_ms, replica):
        ledger.version += 1


def _blame(request: Request | None, segments: Segments) -> None:
    """Counts a loss for each of the segments."""
    if request is None:
        return
    for segment in segments:
        request.losses[segment] = request.losses.get(segment, 0) + 1


def _wait_again(
    request: Request,
    lengths_ms: Mapping[int, int],
    pool: str,
    *,
    lives: str | None,
    was_alone: bool,
) -> Segments:
    """Lets the segments of a lost chunk wait again; returns those that are given up.

    `lives` is the replica that answered without recognising anything: then the segments that are
    not suspects go elsewhere together. None: the replica died, and they are planned anew.
    """
    losses = request.losses
    suspects = {s: ms for s, ms in lengths_ms.items() if losses.get(s, 0) >= SUSPECT_LOSSES}
    if len(lengths_ms) == 1 and any(was_alone or losses[s] >= MOST_LOSSES for s in suspects):
        return tuple(suspects)
    others = {s: ms for s, ms in lengths_ms.items() if s not in suspects}
    if others and lives is not None:
        request.retries.append(Retry(tuple(others), tuple(others.values()), pool, lives))
    else:
        request.backlog.put_back(others)
    request.retries += [
        Retry((s,), (ms,), pool, lives or "", suspect=True) for s, ms in suspects.items()
    ]
    return ()
