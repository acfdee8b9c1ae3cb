"""A pool as it is now: its replicas, the orders they have, and how fast they turned out to be.

Every order is one replica's. Only a pool at zero has orders for whichever replica starts first:
these have no slot, and slot number 0 stands for that replica.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from deployments.core.scheduler.events import Finished
from deployments.core.scheduler.planning import PoolSpec, Worker
from deployments.core.scheduler.roster import Roster
from deployments.core.scheduler.slots import Place, Slot
from deployments.core.scheduler.speeds import DOUBT, SpeedFit

OUTSTANDING_BATCHES = 2  # per replica: one is computed while the next is copied to the GPU
URGENT_BATCHES = 3  # per replica, for interactive chunks: they need not wait for a batch to end
TO_START = 0  # the slot number of the replica that a pool at zero starts first


class PoolState:
    """One pool. Its slots are the replicas that Serve runs, without those that were seen to die."""

    def __init__(self, spec: PoolSpec) -> None:
        self.spec = spec
        self.speed = SpeedFit(spec.overhead_ms, 1.0 / spec.speed)  # the mean of its replicas
        self.outstanding: dict[int, Place] = {}
        self.queued_ms = 0  # padded audio of the outstanding orders
        self.work_ms = 0.0  # the time that they take
        self.kept: set[int] = set()  # slots that get nothing until a suspect is sent there
        self._alone: dict[int, int] = {}  # a suspect's order -> the slot that it has for itself
        self._roster = Roster(spec)
        self._starting_since_ms: float | None = None

    # -- its replicas

    @property
    def slots(self) -> dict[int, Slot]:
        """Its running replicas by slot number."""
        return self._roster.slots

    @property
    def n_replicas(self) -> int:
        return len(self.slots)

    @property
    def can_start(self) -> bool:
        """Whether an order for a pool at zero will meet a replica: Serve starts or replaces one."""
        return self.spec.can_start or bool(self._roster.listed)

    @property
    def full_chunk_ms(self) -> float:
        """How long a replica takes for a chunk that fills the batch budget."""
        return self.speed.chunk_ms(self.spec.batch_audio_ms)

    @property
    def rate(self) -> float:
        """Audio that one replica recognises in a unit of time, in full batches."""
        return self.spec.batch_audio_ms / self.full_chunk_ms

    @property
    def total_rate(self) -> float:
        """The same of all its replicas together."""
        known = self._roster.known
        return known.rate + (len(self.slots) - known.n) * self.rate

    def set_replicas(self, now_ms: float, replicas: tuple[str, ...]) -> bool:
        """Takes the replicas that Serve runs; returns whether the slots have changed."""
        changed = self._roster.set_listed(now_ms, replicas)
        if self.slots:
            self._starting_since_ms = None
        return changed

    def died(self, now_ms: float, replica: str) -> bool:
        """Leaves out a replica that has died; returns whether the slots have changed."""
        return self._roster.died(now_ms, replica)

    def replica_of(self, slot_number: int) -> str:
        """The name of the slot's replica; empty: it is still to start."""
        slot = self.slots.get(slot_number)
        return slot.replica if slot is not None else ""

    # -- where there is room

    def has_room(
        self, slot_number: int, *, batches: int = OUTSTANDING_BATCHES, padded_ms: int = 0
    ) -> bool:
        """Whether the slot's replica may get a chunk, beside at most so many batches in all."""
        if slot_number == TO_START:
            return self.may_have_room(batches=batches, padded_ms=padded_ms)
        slot = self.slots.get(slot_number)
        return slot is not None and self._has_room(slot, batches, padded_ms)

    def may_have_room(self, *, batches: int, padded_ms: int = 0) -> bool:
        """Whether the pool's totals leave room: a cheap check. Each replica may still be full."""
        n = len(self.slots) or int(self.can_start)
        count = len(self.outstanding)
        if count >= n * self.spec.max_ongoing:
            return False
        small = self.queued_ms + padded_ms <= n * (batches - 1) * self.spec.batch_audio_ms
        return count < n * batches or small

    def _has_room(self, slot: Slot, batches: int, padded_ms: int) -> bool:
        if self._is_kept(slot):
            return False
        count, most = len(slot.orders), self.spec.max_ongoing
        # An order without a slot may be with any replica, so all orders are counted too.
        if count >= most or len(self.outstanding) >= len(self.slots) * most:
            return False
        small = slot.queued_ms + padded_ms <= (batches - 1) * self.spec.batch_audio_ms
        return count < batches or small

    def with_room(self, batches: int) -> Iterator[int]:
        """Slots for a full chunk each, in rounds; the caller sends one before it asks again.

        The replica that is free first comes first in every round. A replica that was sent nothing
        in one round is left out of the next.
        """
        if not self.slots:
            if self.can_start and not self.outstanding:
                yield TO_START
            return
        slots = list(self._roster.by_time())
        while slots and self.may_have_room(batches=batches):
            sent_to = []
            for slot in slots:
                count = len(slot.orders)
                if slot.number in self.slots and self._has_room(slot, batches, 0):
                    yield slot.number
                    if len(slot.orders) > count:
                        sent_to.append(slot)
            slots = sent_to

    def first_with_room(
        self, now_ms: float, batches: int, padded_ms: int, *, avoid: str = ""
    ) -> int | None:
        """The slot that is free first and has room; None where no replica has any.

        The slot of the replica `avoid` is returned only where the pool has no other replica.
        """
        if not self.may_have_room(batches=batches, padded_ms=padded_ms):
            return None
        if not self.slots:
            return TO_START
        first = _without(avoid, list(self._roster.in_turn(now_ms)))
        return next((s.number for s in first if self._has_room(s, batches, padded_ms)), None)

    # -- suspects: segments that may kill their replica

    def first_to_keep(self, now_ms: float, *, avoid: str = "") -> int | None:
        """The slot that is free first, for a suspect; that of `avoid` only if there is no other."""
        free = [slot for slot in self._roster.in_turn(now_ms) if not self._is_kept(slot)]
        return next((slot.number for slot in _without(avoid, free)), None)

    def is_clear(self, now_ms: float, slot_number: int) -> bool:
        """Whether the slot's replica certainly has no order.

        An order without a slot may be with any replica, until it should have been answered.
        """
        return self.has_room(slot_number, batches=1) and all(
            place.slot or now_ms > place.end_ms + place.work_ms + place.restart_ms
            for place in self.outstanding.values()
        )

    def isolate(self, order: int) -> None:
        """The order's replica gets no other order beside it."""
        slot = self.outstanding[order].slot
        if slot is not None:
            self._alone[order] = slot.number

    def has_alone(self, order: int) -> bool:
        """Whether the order's replica certainly had no other order."""
        slot = self.outstanding[order].slot
        return slot is not None and (order in self._alone or len(slot.orders) == 1)

    def _is_kept(self, slot: Slot) -> bool:
        if not (self.kept or self._alone):
            return False
        return slot.number in self.kept or slot.number in self._alone.values()

    # -- idle replicas, and what a plan sees of the pool

    def is_idle(self, slot_number: int) -> bool:
        """Whether the slot's replica has nothing to do."""
        if slot_number == TO_START:
            return not self.outstanding
        return slot_number in self.slots and not self.slots[slot_number].orders

    def has_idle(self) -> bool:
        """Whether any replica has nothing to do."""
        return len(self.outstanding) < len(self.slots)

    def idle_workers(self, now_ms: float, most: int) -> list[Worker]:
        """Up to `most` replicas that have nothing to do, fastest first."""
        idle = [s for s in self._roster.by_time() if not s.orders and not self._is_kept(s)][:most]
        return sorted((self._worker(now_ms, slot) for slot in idle), key=lambda w: w.slope)

    def workers(
        self, now_ms: float, most: int, n_all: int = 1, time_ms: float = 0.0
    ) -> list[Worker]:
        """The replicas that are free first, fastest first; for a pool at zero the one to start."""
        if not self.slots:
            return [self._starting(now_ms)] if self.can_start else []
        free = (slot for slot in self._roster.in_turn(now_ms) if not self._is_kept(slot))
        found = [self._worker(now_ms, slot, n_all, time_ms) for slot in islice(free, most)]
        return sorted(found, key=lambda worker: (worker.slope, worker.free_ms))

    def worker(self, now_ms: float, slot_number: int) -> Worker:
        """One replica as a plan sees it."""
        slot = self.slots.get(slot_number)
        return self._worker(now_ms, slot) if slot else self._starting(now_ms)

    def _worker(self, now_ms: float, slot: Slot, n_all: int = 1, time_ms: float = 0.0) -> Worker:
        speed = self._speed_of(slot)
        typical_ms = min(self.spec.batch_audio_ms, time_ms / speed.slope)
        return Worker(
            self.spec.name,
            slot.will_be_free_ms(now_ms),
            speed.overhead_ms,
            speed.slope,
            self.spec.batch_audio_ms,
            speed.risk(n_all, typical_ms),
            slot.number,
            speed.doubt(typical_ms),
        )

    def _starting(self, now_ms: float) -> Worker:
        since_ms = now_ms if self._starting_since_ms is None else self._starting_since_ms
        up_ms = max(now_ms, since_ms + self.spec.start_ms) + self.work_ms
        speed, budget_ms = self.speed, self.spec.batch_audio_ms
        return Worker(self.spec.name, up_ms, speed.overhead_ms, speed.slope, budget_ms)

    def is_unknown(self, padded_ms: int, slot_number: int) -> bool:
        """Whether it is little known how long the slot's replica takes for such a chunk.

        False for a replica that is still to start: waiting would teach nothing about it.
        """
        slot = self.slots.get(slot_number)
        return slot is not None and self._speed_of(slot).doubt(padded_ms) > DOUBT

    def error_ms(self, now_ms: float, padded_ms: int, slot_number: int) -> float:
        """The standard deviation of the time at which the slot's replica ends one more chunk."""
        slot = self.slots.get(slot_number)
        if slot is None:
            return self.speed.spread(padded_ms) * self.speed.chunk_ms(padded_ms)
        speed = self._speed_of(slot)
        took_ms = slot.will_be_free_ms(now_ms) - now_ms + speed.chunk_ms(padded_ms)
        return speed.spread(padded_ms) * took_ms

    def _speed_of(self, slot: Slot) -> SpeedFit:
        if slot.speed.is_new:
            slot.speed.hold_to(*self._roster.known.typical())
        return slot.speed

    # -- its orders

    def place(self, now_ms: float, order: int, padded_ms: int, slot_number: int) -> None:
        """Counts an order as sent to the slot's replica."""
        slot = self.slots.get(slot_number)
        work_ms = (self._speed_of(slot) if slot else self.speed).chunk_ms(padded_ms)
        place = Place(padded_ms, work_ms, slot)
        if slot is None:
            place.start_ms = self._starting(now_ms).free_ms
            if self._starting_since_ms is None:
                self._starting_since_ms = now_ms
        else:
            self._roster.set_free(slot, slot.append(now_ms, order, place))
        self.outstanding[order] = place
        self.queued_ms += padded_ms
        self.work_ms += work_ms

    def remove(self, now_ms: float, order: int) -> None:
        """Takes out an order that is answered, lost or cancelled."""
        place = self.outstanding.pop(order)
        self._alone.pop(order, None)
        self.queued_ms -= place.padded_ms
        self.work_ms = self.work_ms - place.work_ms if self.outstanding else 0.0
        if place.slot is not None:
            self._roster.set_free(place.slot, place.slot.remove(now_ms, order))

    def learn(self, done: Finished) -> None:
        """Takes the time of a chunk, or of the mean batch that several small chunks shared.

        A replica with little memory cuts a chunk into several batches. Its chunk still counts as
        one, because chunks are what the scheduler sends.
        """
        slot = self._roster.named(done.replica)
        if slot is None or done.padded_ms <= 0 or not 0 < done.share <= 1:
            return
        n_batches = max(1, done.n_batches) if done.share < 1 else 1
        whole_ms, took_ms = (ms / done.share / n_batches for ms in (done.padded_ms, done.busy_ms))
        self._roster.learn(slot, whole_ms, took_ms, done.share)
        self.speed.set_to(*self._roster.known.mean())


def _without(replica: str, slots: list[Slot]) -> list[Slot]:
    """The slots without that replica's; all of them where there is no other."""
    return [slot for slot in slots if slot.replica != replica] or slots
