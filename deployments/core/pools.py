"""A pool as it is now: its replicas, what they have, how fast they turned out to be.

Where a chunk can be sent to a replica by name, every order is one replica's. Otherwise orders go to
the pool: which replica has one is guessed (the one that is free first) and put right by who
answers; from then on its name is known too.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from deployments.core.events import Finished
from deployments.core.planning import PoolSpec, Worker
from deployments.core.roster import Roster
from deployments.core.slots import Place, Slot
from deployments.core.speeds import DOUBT, SpeedFit

OUTSTANDING_BATCHES = 2  # per replica: one computing, one being copied in (measured: DESIGN 3)
URGENT_BATCHES = 3  # for interactive chunks, so that they need not wait for room


class PoolState:
    """One pool. `n_replicas` counts what Serve runs less what was seen to die."""

    def __init__(self, spec: PoolSpec) -> None:
        self.spec = spec
        self.speed = SpeedFit(spec.overhead_ms, 1.0 / spec.speed)  # of its replicas on the whole
        self.outstanding: dict[int, Place] = {}
        self.queued_ms = 0  # padded audio outstanding
        self.work_ms = 0.0  # the time it takes
        self.kept: set[int] = set()  # slots that wait to have nothing, for a suspect
        self._alone: dict[int, int] = {}  # suspects' orders: each one's slot has nothing else
        self._roster = Roster(spec)
        self._starting_since_ms: float | None = None

    # -- what it is

    @property
    def slots(self) -> dict[int, Slot]:
        """Its replicas by their numbers."""
        return self._roster.slots

    @property
    def n_replicas(self) -> int:
        return len(self.slots)

    @property
    def has_names(self) -> bool:
        """Whether every order is one replica's."""
        return self._roster.has_names

    @property
    def will_have_names(self) -> bool:
        """Whether none runs, and an order can be one replica's as soon as one does."""
        return not self.slots and self._roster.had_names

    @property
    def can_start(self) -> bool:
        """Whether what is sent where none runs will meet a replica: Serve starts or replaces it."""
        return self.spec.can_start or self._roster.n_told > 0

    @property
    def full_chunk_ms(self) -> float:
        return self.speed.chunk_ms(self.spec.batch_audio_ms)

    @property
    def rate(self) -> float:
        """Audio per time of one replica on full batches."""
        return self.spec.batch_audio_ms / self.full_chunk_ms

    @property
    def total_rate(self) -> float:
        """Of all its replicas."""
        known = self._roster.known
        return known.rate + (len(self.slots) - known.n) * self.rate

    def resize(self, now_ms: float, n_told: int, names: tuple[str, ...] = ()) -> bool:
        """Takes Serve's count, and names; whether the replicas are others now."""
        changed = self._roster.resize(now_ms, n_told, names)
        if self.slots:
            self._starting_since_ms = None
        return changed

    def died(self, now_ms: float, order: int, replica: str = "") -> bool:
        """That order was lost, by this replica where that is known; whether they are others now."""
        place = self.outstanding.get(order)
        return self._roster.died(now_ms, place.slot if place else None, replica)

    # -- where there is room

    def has_room(
        self, *, batches: int = OUTSTANDING_BATCHES, padded_ms: int = 0, slot: int = 0
    ) -> bool:
        """Whether a chunk may be sent: so many batches a replica, never above `max_ongoing`.

        To the replica of that slot; 0: to any.
        """
        if slot:
            one = self.slots.get(slot)
            return one is not None and self._has_room(one, batches, padded_ms)
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
        # What was sent before it ran, or to one that is gone, may wait for any.
        if count >= most or len(self.outstanding) >= len(self.slots) * most:
            return False
        small = slot.queued_ms + padded_ms <= (batches - 1) * self.spec.batch_audio_ms
        return count < batches or small

    def with_room(self, batches: int) -> Iterator[int]:
        """Slots that may have a chunk, the first to be free first; 0 where any may have it.

        In rounds, so that the next to be idle is filled first; one that is given nothing is left
        out from then on.
        """
        if not (self.has_names and self.slots):
            count = -1
            while self._gets_more(count, batches):
                count = len(self.outstanding)
                yield 0
            return
        slots = list(self._roster.first())
        while slots and self.has_room(batches=batches):
            kept = []
            for slot in slots:
                count = len(slot.orders)
                if slot.number in self.slots and self._has_room(slot, batches, 0):
                    yield slot.number
                    if len(slot.orders) > count:
                        kept.append(slot)
            slots = kept

    def _gets_more(self, count: int, batches: int) -> bool:
        """Whether any may have a chunk, and was given one since there were so many."""
        moved = len(self.outstanding) > count
        return moved and self.has_room(batches=batches) and bool(self.slots or not self.outstanding)

    def is_of(self, slot: int, replica: str) -> bool:
        """Whether the slot is that replica's; False where either is not known."""
        return bool(replica) and slot in self.slots and self.slots[slot].replica == replica

    def first_with_room(
        self, now_ms: float, batches: int, padded_ms: int, *, avoid: str = ""
    ) -> int | None:
        """The slot for a chunk that may go to any; 0 where orders have no names; None: no room.

        That of the replica `avoid` only where there is no other, with room or without.
        """
        if not self.has_room(batches=batches, padded_ms=padded_ms):
            return None
        if not (self.has_names and self.slots):
            return 0
        first = _but(avoid, list(self._roster.in_turn(now_ms)))
        return next((s.number for s in first if self._has_room(s, batches, padded_ms)), None)

    # -- what may kill its replica, and goes where no other dies with it

    def first_to_keep(self, now_ms: float, *, avoid: str = "") -> int | None:
        """The slot that has nothing first; that of `avoid` only where there is no other."""
        free = [slot for slot in self._roster.in_turn(now_ms) if not self._is_kept(slot)]
        return next((slot.number for slot in _but(avoid, free)), None)

    def is_clear(self, now_ms: float, slot: int) -> bool:
        """Whether its replica has nothing; what is nobody's may be with any, until it is late."""
        return self.has_room(batches=1, slot=slot) and all(
            place.slot or now_ms - place.begin_ms > self.spec.start_ms + 2 * place.work_ms
            for place in self.outstanding.values()
        )

    def isolate(self, order: int) -> None:
        """That order's replica gets nothing beside it."""
        place = self.outstanding[order]
        if place.slot is not None and self.has_names:
            self._alone[order] = place.slot.number

    def has_alone(self, order: int) -> bool:
        """Whether the order's replica had nothing else, as far as one knows."""
        slot = self.outstanding[order].slot
        if not self.has_names or slot is None:  # if it is gone, another may have had the order
            return not self._roster.had_names
        return order in self._alone or len(slot.orders) == 1

    def _is_kept(self, slot: Slot) -> bool:
        if not (self.kept or self._alone):
            return False
        return slot.number in self.kept or slot.number in self._alone.values()

    # -- who has nothing, and what a plan sees

    def is_idle(self, slot: int = 0) -> bool:
        """Whether the slot's replica has nothing to do; 0: any, or one that is to start."""
        if slot:
            return slot in self.slots and not self.slots[slot].orders
        return len(self.outstanding) < (len(self.slots) or int(self.can_start))

    def idle_workers(self, now_ms: float, most: int) -> list[Worker]:
        """Replicas that have nothing to do, fastest first."""
        idle = [s for s in self._roster.first() if not s.orders and not self._is_kept(s)][:most]
        return sorted((self._worker(now_ms, slot) for slot in idle), key=lambda w: w.slope)

    def idle_slot(self) -> int:
        """One that has nothing to do; 0 where there is none, or orders have no names."""
        idle = (s.number for s in self._roster.first() if not s.orders and not self._is_kept(s))
        return next(idle, 0) if self.has_names else 0

    def workers(
        self, now_ms: float, most: int, n_all: int = 1, time_ms: float = 0.0
    ) -> list[Worker]:
        """The replicas that are free first, fastest first; one that must start where none runs."""
        if not self.slots:
            return [self._starting(now_ms)] if self.can_start else []
        free = (slot for slot in self._roster.in_turn(now_ms) if not self._is_kept(slot))
        found = [self._worker(now_ms, slot, n_all, time_ms) for slot in islice(free, most)]
        return sorted(found, key=lambda worker: (worker.slope, worker.free_ms))

    def worker(self, now_ms: float, number: int) -> Worker:
        """The replica of a slot; 0: the one that is free first, or that must start."""
        slot = self._roster.find(number)
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
            slot.number if self.has_names else 0,
            speed.doubt(typical_ms),
        )

    def _starting(self, now_ms: float) -> Worker:
        since_ms = now_ms if self._starting_since_ms is None else self._starting_since_ms
        up_ms = max(now_ms, since_ms + self.spec.start_ms) + self.work_ms
        speed, budget_ms = self.speed, self.spec.batch_audio_ms
        return Worker(self.spec.name, up_ms, speed.overhead_ms, speed.slope, budget_ms)

    def is_unknown(self, padded_ms: int, number: int = 0) -> bool:
        """Whether the time of such a chunk is little known there, or where it is free first.

        What is learned of no replica in particular, where results have no names, is of all. False
        where none runs: it will have answered nothing when it has started, however long one waits.
        """
        slot = self._roster.find(number)
        if slot is None:
            return False
        own = self._speed_of(slot)
        return min(own.doubt(padded_ms), self.speed.doubt(padded_ms)) > DOUBT

    def error_ms(self, now_ms: float, padded_ms: int, number: int = 0) -> float:
        """How far off the end of such a chunk may be, behind what that replica has already.

        Of the replica that is free first where it is no slot's.
        """
        slot = self._roster.find(number)
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

    def place(self, now_ms: float, order: int, padded_ms: int, number: int = 0) -> float:
        """Counts an order as sent, to that slot if it is one; when its answer is expected."""
        slot = self._roster.find(number)
        work_ms = (self._speed_of(slot) if slot else self.speed).chunk_ms(padded_ms)
        place = Place(padded_ms, work_ms, slot)
        self.outstanding[order] = place
        self.queued_ms += padded_ms
        self.work_ms += work_ms
        if slot is None:
            place.begin_ms = now_ms
            if self._starting_since_ms is None:
                self._starting_since_ms = now_ms
            return self._starting_since_ms + self.spec.start_ms + self.work_ms
        self._roster.set_free(slot, slot.take(now_ms, order, place))
        return slot.free_ms

    def replica_of(self, order: int) -> str:
        """The name of the replica that is to have the order; empty: any, or not known yet."""
        slot = self.outstanding[order].slot
        return slot.replica if slot is not None else ""

    def remove(self, now_ms: float, order: int, replica: str = "") -> None:
        """The order is closed: answered by `replica`, or gone."""
        place = self.outstanding.pop(order)
        self._alone.pop(order, None)
        self.queued_ms -= place.padded_ms
        self.work_ms = self.work_ms - place.work_ms if self.outstanding else 0.0
        slot = self._answering(order, place, replica) if replica else place.slot
        if slot is not None:
            self._roster.set_free(slot, slot.leave(now_ms, order))

    def _answering(self, order: int, place: Place, replica: str) -> Slot | None:
        """The slot of the replica that answered; a wrong guess is put right by an exchange."""
        guessed = place.slot
        actual = self._roster.named(replica)
        if actual is None:
            if self.has_names:
                return guessed
            free = guessed if guessed and not guessed.replica else self._roster.unnamed()
            actual = free or guessed
            if actual is None:
                return None
            self._roster.give_name(actual, replica)
        if guessed is not None and guessed is not actual:
            guessed.exchange(order, actual)
        return actual

    def learn(self, done: Finished) -> None:
        """Takes a result's times: a chunk's, or those of the mean batch that small ones shared.

        A replica with little memory takes several batches for a chunk: that is how long it takes.
        """
        share = done.share
        if done.padded_ms <= 0 or not 0 < share <= 1:
            return
        n_batches = max(1, done.n_batches) if share < 1 else 1
        whole_ms, took_ms = (ms / share / n_batches for ms in (done.padded_ms, done.busy_ms))
        slot = self._roster.named(done.replica)
        if slot is None or slot.number not in self.slots:
            self.speed.learn(whole_ms, took_ms, share)
            return
        self._roster.learn(slot, whole_ms, took_ms, share)
        self.speed.take(*self._roster.known.mean())


def _but(replica: str, slots: list[Slot]) -> list[Slot]:
    """The slots without that replica's; all of them where there is no other."""
    return [slot for slot in slots if not replica or slot.replica != replica] or slots
