"""Which replicas a pool has: by name where a chunk can be sent to one of them, else so many.

What Serve says is late: a replica that was seen to die is left out before Serve notices.
"""

from __future__ import annotations

import bisect
from collections import deque
from collections.abc import Iterator

from deployments.core.planning import PoolSpec
from deployments.core.slots import Slot
from deployments.core.speeds import KnownSpeeds, SpeedFit

DEATH_MS = 500.0  # losses within so long are of one replica, where nobody says of which
MISSING_MS = 10_000.0  # so long a replica that died is not counted, whatever Serve says
MOST_DEAD = 100  # names kept


class Roster:
    """The slots of a pool, one for each replica, and when each is free."""

    def __init__(self, spec: PoolSpec) -> None:
        self.slots: dict[int, Slot] = {}
        self.n_told = 0  # what Serve runs
        self.had_names = False  # now or before
        self.known = KnownSpeeds(spec.overhead_ms, 1.0 / spec.speed, spec.batch_audio_ms)
        self._names: tuple[str, ...] = ()
        self._by_time: list[tuple[float, int]] = []  # (free_ms, slot), sorted
        self._by_replica: dict[str, Slot] = {}
        self._next_slot = 0
        self._deaths: list[tuple[float, str]] = []  # the name: empty where it is not known
        self._dead: deque[str] = deque(maxlen=MOST_DEAD)

    @property
    def has_names(self) -> bool:
        """Whether every order is one replica's."""
        return bool(self._names)

    def first(self, most: int | None = None) -> Iterator[Slot]:
        """The first to be free first."""
        return (self.slots[number] for _, number in self._by_time[:most])

    def in_turn(self, now_ms: float) -> Iterator[Slot]:
        """As they will be free: idle ones first, a late one by how late it is already."""
        late: list[Slot] = []  # the latest first
        for slot in self.first():
            if slot.orders and slot.free_ms <= now_ms:
                late.append(slot)
                continue
            free_ms = slot.will_be_free_ms(now_ms)
            while late and late[-1].will_be_free_ms(now_ms) <= free_ms:
                yield late.pop()
            yield slot
        yield from reversed(late)

    def find(self, number: int) -> Slot | None:
        """The slot of that number; 0: the one that is free first, if there is any."""
        return self.slots.get(number) if number else next(self.first(1), None)

    def named(self, replica: str) -> Slot | None:
        """The slot of the replica of that name, once known."""
        return self._by_replica.get(replica)

    def unnamed(self) -> Slot | None:
        """One whose replica's name is not known."""
        if len(self._by_replica) >= len(self.slots):
            return None
        return next((slot for slot in self.slots.values() if not slot.replica), None)

    def set_free(self, slot: Slot, free_ms: float) -> None:
        """Notes when the slot's replica will have nothing to do; nothing if it is gone."""
        if slot.number not in self.slots:
            return
        self._forget_time(slot)
        slot.free_ms = free_ms
        bisect.insort(self._by_time, (free_ms, slot.number))

    def give_name(self, slot: Slot, replica: str) -> None:
        """The slot turns out to be this replica's, of which nothing is known."""
        self._by_replica.pop(slot.replica, None)
        if slot.number in self.slots:
            self.known.remove(slot.speed)
        slot.replica, slot.speed = replica, self._new_fit()
        self._by_replica[replica] = slot

    def learn(self, slot: Slot, padded_ms: float, took_ms: float, share: float) -> None:
        """Takes the time of one batch of the slot's replica."""
        slot.speed.hold_to(*self.known.typical())
        self.known.remove(slot.speed)
        slot.speed.learn(padded_ms, took_ms, share)
        self.known.add(slot.speed)

    # -- who comes and goes

    def resize(self, now_ms: float, n_told: int, names: tuple[str, ...] = ()) -> bool:
        """Takes Serve's count, and names; whether the replicas are others now."""
        if not names and n_told < self.n_told:  # Serve has noticed too
            self._deaths = self._deaths[: max(0, len(self._deaths) - (self.n_told - n_told))]
        self.n_told, self._names = n_told, names
        self.had_names |= bool(names)
        return self._settle(now_ms)

    def died(self, now_ms: float, slot: Slot | None, replica: str = "") -> bool:
        """A chunk was lost by this replica, or else by the slot's; whether the replicas are others.

        Without names it is a guess which replica that was, and whether it is told a second time.
        """
        replica = replica or (slot.replica if slot and self.has_names else "")
        if self.has_names:
            if not replica or any(replica == name for _, name in self._deaths):
                return False
        elif replica in self._dead if replica else self._has_just_died(now_ms):
            return False
        slot = self._by_replica.get(replica, slot)
        self._deaths.append((now_ms, replica))
        if replica:
            self._dead.append(replica)
        changed = not self.has_names and slot is not None and self._drop(slot)
        return self._settle(now_ms) or changed

    def _has_just_died(self, now_ms: float) -> bool:
        return bool(self._deaths) and now_ms - self._deaths[-1][0] < DEATH_MS

    def _settle(self, now_ms: float) -> bool:
        self._deaths = [death for death in self._deaths if now_ms - death[0] < MISSING_MS]
        before = set(self.slots)
        if self.has_names:
            self._settle_names(now_ms)
        else:
            self._settle_count(now_ms)
        return set(self.slots) != before

    def _settle_names(self, now_ms: float) -> None:
        wanted = dict.fromkeys(self._names)
        for _, name in self._deaths:
            wanted.pop(name, None)
        for slot in [slot for slot in self.slots.values() if slot.replica not in wanted]:
            self._drop(slot)
        for name in wanted:
            if name not in self._by_replica:
                self._by_replica[name] = self._add(now_ms, name)

    def _settle_count(self, now_ms: float) -> None:
        wanted = max(0, self.n_told - len(self._deaths))
        while len(self.slots) < wanted:
            self._add(now_ms)
        while len(self.slots) > wanted:  # the one that is thought to have the most
            self._drop(self.slots[self._by_time[-1][1]])

    def _add(self, now_ms: float, name: str = "") -> Slot:
        self._next_slot += 1
        slot = Slot(self._next_slot, self._new_fit(), name, free_ms=now_ms)
        self.slots[slot.number] = slot
        bisect.insort(self._by_time, (now_ms, slot.number))
        return slot

    def _drop(self, slot: Slot) -> bool:
        """Whether it was there; what it had is nobody's until it is lost or answered."""
        if self.slots.pop(slot.number, None) is None:
            return False
        self.known.remove(slot.speed)
        self._forget_time(slot)
        self._by_replica.pop(slot.replica, None)
        for place in slot.orders.values():
            place.slot = None
        return True

    def _forget_time(self, slot: Slot) -> None:
        del self._by_time[bisect.bisect_left(self._by_time, (slot.free_ms, slot.number))]

    def _new_fit(self) -> SpeedFit:
        return SpeedFit(*self.known.typical())
