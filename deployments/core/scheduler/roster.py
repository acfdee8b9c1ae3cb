"""Which replicas a pool has, by name, and which of them is free first."""

from __future__ import annotations

import bisect
from collections.abc import Iterator

from deployments.core.scheduler.planning import PoolSpec
from deployments.core.scheduler.slots import Slot
from deployments.core.scheduler.speeds import KnownSpeeds, SpeedFit

MISSING_MS = 10_000.0  # for so long Serve may still list a replica that has died


class Roster:
    """The slots of a pool, one for each replica that Serve runs and that has not died."""

    def __init__(self, spec: PoolSpec) -> None:
        self.slots: dict[int, Slot] = {}
        self.listed: tuple[str, ...] = ()  # the replicas that Serve says it runs
        self.known = KnownSpeeds(spec.overhead_ms, 1.0 / spec.speed, spec.batch_audio_ms)
        self._by_time: list[tuple[float, int]] = []  # (free_ms, slot number), sorted
        self._by_replica: dict[str, Slot] = {}
        self._start_ms = spec.start_ms
        self._last_number = 0
        self._deaths: dict[str, float] = {}  # when each replica died that Serve may still list

    def by_time(self) -> Iterator[Slot]:
        """The slots, those that were expected to be free first coming first."""
        return (self.slots[number] for _, number in self._by_time)

    def in_turn(self, now_ms: float) -> Iterator[Slot]:
        """The slots as they will be free from now on: an overdue one needs some more time."""
        overdue: list[Slot] = []  # the one that needs most comes first
        for slot in self.by_time():
            if slot.orders and slot.free_ms <= now_ms:
                overdue.append(slot)
                continue
            free_ms = slot.will_be_free_ms(now_ms)
            while overdue and overdue[-1].will_be_free_ms(now_ms) <= free_ms:
                yield overdue.pop()
            yield slot
        yield from reversed(overdue)

    def named(self, replica: str) -> Slot | None:
        """The slot of that replica; None if it is not running."""
        return self._by_replica.get(replica)

    def set_free(self, slot: Slot, free_ms: float) -> None:
        """Notes when the slot's replica will be free; does nothing if the replica is gone."""
        if slot.number not in self.slots:
            return
        self._forget_time(slot)
        slot.free_ms = free_ms
        bisect.insort(self._by_time, (free_ms, slot.number))

    def learn(self, slot: Slot, padded_ms: float, took_ms: float, share: float) -> None:
        """Takes the time of one batch of the slot's replica."""
        slot.speed.hold_to(*self.known.typical())
        self.known.remove(slot.speed)
        slot.speed.learn(padded_ms, took_ms, share)
        self.known.add(slot.speed)

    # -- replicas that come and go

    def set_listed(self, now_ms: float, replicas: tuple[str, ...]) -> bool:
        """Takes the replicas that Serve says it runs; returns whether the slots have changed."""
        self.listed = replicas
        return self._settle(now_ms)

    def died(self, now_ms: float, replica: str) -> bool:
        """Leaves the replica out before Serve notices; returns whether the slots have changed."""
        if replica in self._deaths:
            return False
        self._deaths[replica] = now_ms
        return self._settle(now_ms)

    def _settle(self, now_ms: float) -> bool:
        """Makes the slots those of the replicas that are listed and have not died lately."""
        self._deaths = {
            r: at_ms for r, at_ms in self._deaths.items() if now_ms - at_ms < MISSING_MS
        }
        running = dict.fromkeys(name for name in self.listed if name not in self._deaths)
        gone = [replica for replica in self._by_replica if replica not in running]
        new = [replica for replica in running if replica not in self._by_replica]
        for replica in gone:
            self._drop(self._by_replica.pop(replica))
        for replica in new:
            self._by_replica[replica] = self._add(now_ms, replica)
        return bool(gone or new)

    def _add(self, now_ms: float, replica: str) -> Slot:
        self._last_number += 1
        speed = SpeedFit(*self.known.typical())
        slot = Slot(self._last_number, replica, speed, free_ms=now_ms)
        self.slots[slot.number] = slot
        bisect.insort(self._by_time, (now_ms, slot.number))
        return slot

    def _drop(self, slot: Slot) -> None:
        """Takes the slot out; its orders have no slot until each is reported lost or answered."""
        del self.slots[slot.number]
        self.known.remove(slot.speed)
        self._forget_time(slot)
        for place in slot.orders.values():
            place.slot, place.restart_ms = None, self._start_ms

    def _forget_time(self, slot: Slot) -> None:
        del self._by_time[bisect.bisect_left(self._by_time, (slot.free_ms, slot.number))]
