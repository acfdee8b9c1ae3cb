"""A pool as it is now: its replicas, what they have, how fast they turned out to be.

An order is for the replica that is free first, by name once that has answered. Until then it is
for the pool: which replica has it is guessed, and put right by who answers.
"""

from __future__ import annotations

import bisect
from collections import deque
from dataclasses import dataclass, field

from deployments.core.planning import PoolSpec, Worker
from deployments.core.speeds import SpeedFit, learned_factor

OUTSTANDING_BATCHES = 2  # per replica: one computing, one being copied in (measured: DESIGN 3)
URGENT_BATCHES = 3  # for interactive chunks, so that they need not wait for room
DEATH_MS = 500.0  # losses within so long are of one replica
MISSING_MS = 10_000.0  # so long a replica that died is not counted, whatever Serve says
MOST_DEAD = 100  # names kept
STEP = 0.25  # a replica's factor within a step of its pool's is its pool's


@dataclass(slots=True)
class Place:
    """An order's cost in its pool."""

    padded_ms: int
    work_ms: float  # on a replica of the pool's own speed
    slot: Slot | None
    begin_ms: float = 0.0


@dataclass(slots=True)
class Slot:
    """One replica: what it is thought to have, first come first."""

    number: int
    orders: dict[int, Place] = field(default_factory=dict)
    replica: str = ""  # once it has answered
    factor: float = 1.0  # its times over its pool's
    free_ms: float = 0.0

    @property
    def pace(self) -> float:
        """The factor, in steps: the noise of results orders no replicas."""
        return max(STEP, round(self.factor / STEP) * STEP)


class PoolState:
    """One pool. `n_replicas` counts what Serve runs less what was seen to die."""

    def __init__(self, spec: PoolSpec) -> None:
        self.spec = spec
        self.speed = SpeedFit(spec.overhead_ms, spec.speed)
        self.slots: dict[int, Slot] = {}
        self._parallel = 0.0  # its replicas, counted by their pace
        self._by_time: list[tuple[float, int]] = []  # (free_ms, slot), sorted
        self._next_slot = 0
        self._mean_factor = 1.0
        self.outstanding: dict[int, Place] = {}
        self.queued_ms = 0  # padded audio outstanding
        self.work_ms = 0.0  # the time it takes
        self._by_replica: dict[str, Slot] = {}
        self._told = 0
        self._deaths: list[float] = []
        self._dead: deque[str] = deque(maxlen=MOST_DEAD)
        self._starting_since_ms: float | None = None

    @property
    def n_replicas(self) -> int:
        return len(self.slots)

    @property
    def can_start(self) -> bool:
        """Whether what is sent where none runs will meet a replica: Serve starts or replaces it."""
        return self.spec.can_start or self._told > 0

    @property
    def full_chunk_ms(self) -> float:
        return self.speed.chunk_ms(self.spec.batch_audio_ms)

    @property
    def rate(self) -> float:
        """Audio per time of one replica on full batches."""
        return self.spec.batch_audio_ms / self.full_chunk_ms

    def resize(self, now_ms: float, n_told: int) -> bool:
        """Takes Serve's count; whether the number of replicas has changed."""
        if n_told < self._told:  # Serve has noticed too
            self._deaths = self._deaths[: max(0, len(self._deaths) - (self._told - n_told))]
        self._told = n_told
        return self._settle(now_ms)

    def died(self, now_ms: float, order: int, replica: str = "") -> bool:
        """A chunk was lost, by this replica where that is known; whether their number changed."""
        if replica and replica in self._dead:
            return False
        if not replica and self._deaths and now_ms - self._deaths[-1] < DEATH_MS:
            return False
        place = self.outstanding.get(order)
        slot = self._by_replica.get(replica) or (place.slot if place else None)
        self._deaths.append(now_ms)
        if replica:
            self._dead.append(replica)
        changed = slot is not None and self._remove_slot(slot)
        return self._settle(now_ms) or changed

    def _settle(self, now_ms: float) -> bool:
        self._deaths = [at for at in self._deaths if now_ms - at < MISSING_MS]
        wanted = max(0, self._told - len(self._deaths))
        before = len(self.slots)
        while len(self.slots) < wanted:
            self._next_slot += 1
            self.slots[self._next_slot] = Slot(self._next_slot, free_ms=now_ms)
            bisect.insort(self._by_time, (now_ms, self._next_slot))
        while len(self.slots) > wanted:  # the one that is thought to have the most
            self._remove_slot(self.slots[self._by_time[-1][1]])
        if wanted:
            self._starting_since_ms = None
        if len(self.slots) != before:
            self._parallel = sum(1 / slot.pace for slot in self.slots.values())
        return len(self.slots) != before

    def _remove_slot(self, slot: Slot) -> bool:
        """Whether it was there; what it had is nobody's until it is lost or answered."""
        if self.slots.pop(slot.number, None) is None:
            return False
        del self._by_time[bisect.bisect_left(self._by_time, (slot.free_ms, slot.number))]
        self._by_replica.pop(slot.replica, None)
        for place in slot.orders.values():
            place.slot = None
        self._parallel = sum(1 / slot.pace for slot in self.slots.values())
        return True

    def replica_of(self, order: int) -> str:
        """The name of the replica that an order is for; empty: not known yet."""
        slot = self.outstanding[order].slot
        return slot.replica if slot else ""

    @property
    def total_rate(self) -> float:
        """Of all its replicas."""
        return self.rate * self._parallel

    def _set_free(self, slot: Slot, free_ms: float) -> None:
        del self._by_time[bisect.bisect_left(self._by_time, (slot.free_ms, slot.number))]
        slot.free_ms = free_ms
        bisect.insort(self._by_time, (free_ms, slot.number))

    def has_room(self, *, batches: int = OUTSTANDING_BATCHES, padded_ms: int = 0) -> bool:
        """Whether a chunk may be sent: so many batches a replica, never above `max_ongoing`."""
        n = len(self.slots) or (1 if self.can_start else 0)
        count = len(self.outstanding)
        if count >= n * self.spec.max_ongoing:
            return False
        small = self.queued_ms + padded_ms <= n * (batches - 1) * self.spec.batch_audio_ms
        return count < n * batches or small

    @property
    def is_idle(self) -> bool:
        """Whether a replica has nothing to do, or is still to be started for the first chunk."""
        return len(self.outstanding) < (len(self.slots) or int(self.can_start))

    def workers(self, now_ms: float, most: int, n_all: int = 1) -> list[Worker]:
        """The replicas that are free first, fastest first; one that must start where none runs."""
        name, budget_ms = self.spec.name, self.spec.batch_audio_ms
        overhead_ms, slope = self.speed.overhead_ms, self.speed.slope
        risk = self.speed.risk(n_all)
        if not self.slots:
            if not self.can_start:
                return []
            since_ms = now_ms if self._starting_since_ms is None else self._starting_since_ms
            up_ms = max(now_ms, since_ms + self.spec.start_ms) + self.work_ms
            return [Worker(name, up_ms, overhead_ms, slope, budget_ms, risk)]
        first = [self.slots[number] for _, number in self._by_time[:most]]
        free = [(slot.pace, _free_ms(slot, now_ms)) for slot in first]
        return [
            Worker(name, free_ms, overhead_ms * pace, slope * pace, budget_ms, risk)
            for pace, free_ms in sorted(free)
        ]

    def place(self, now_ms: float, order: int, padded_ms: int) -> float:
        """Counts an order as sent; when its answer is expected."""
        work_ms = self.speed.chunk_ms(padded_ms)
        place = Place(padded_ms, work_ms, None)
        self.outstanding[order] = place
        self.queued_ms += padded_ms
        self.work_ms += work_ms
        if not self.slots:
            if self._starting_since_ms is None:
                self._starting_since_ms = now_ms
            return self._starting_since_ms + self.spec.start_ms + self.work_ms
        slot = self.slots[self._by_time[0][1]]
        place.slot = slot
        place.begin_ms = max(now_ms, slot.free_ms) if slot.orders else now_ms
        slot.orders[order] = place
        self._set_free(slot, place.begin_ms + work_ms * slot.pace)
        return slot.free_ms

    def remove(self, now_ms: float, order: int, replica: str = "") -> None:
        """The order is closed: answered by `replica`, or gone."""
        place = self.outstanding.pop(order)
        self.queued_ms -= place.padded_ms
        self.work_ms = self.work_ms - place.work_ms if self.outstanding else 0.0
        slot = self._answering(order, place, replica) if replica else place.slot
        if slot is None:
            return
        slot.orders.pop(order, None)
        at_ms = now_ms
        for index, waiting in enumerate(slot.orders.values()):
            if index or waiting.begin_ms > now_ms:
                waiting.begin_ms = at_ms
            at_ms = max(now_ms, waiting.begin_ms + waiting.work_ms * slot.pace)
        if slot.number in self.slots:
            self._set_free(slot, at_ms)

    def _answering(self, order: int, place: Place, replica: str) -> Slot | None:
        """The slot of the replica that answered; a wrong guess is put right by an exchange."""
        guessed = place.slot
        actual = self._by_replica.get(replica)
        if actual is None:
            actual = guessed if guessed and not guessed.replica else self._unnamed() or guessed
            if actual is None:
                return None
            self._by_replica.pop(actual.replica, None)
            if actual.number in self.slots:
                self._parallel += 1 - 1 / actual.pace
            actual.replica, actual.factor = replica, 1.0
            self._by_replica[replica] = actual
        if guessed is not None and guessed is not actual:
            guessed.orders.pop(order, None)
            if actual.orders:
                other, moved = next(iter(actual.orders.items()))
                del actual.orders[other]
                guessed.orders = {other: moved, **guessed.orders}
                moved.slot = guessed
        return actual

    def _unnamed(self) -> Slot | None:
        if len(self._by_replica) >= len(self.slots):
            return None
        return next((slot for slot in self.slots.values() if not slot.replica), None)

    def learn(self, padded_ms: int, busy_ms: float, replica: str, share: float) -> None:
        """Takes a result's times; `share` is the chunk's part of its batch."""
        if padded_ms <= 0 or not 0 < share <= 1:
            return
        whole_ms, took_ms = padded_ms / share, busy_ms / share
        slot = self._by_replica.get(replica)
        if slot is not None and len(self.slots) > 1:
            before = 1 / slot.pace
            slot.factor = learned_factor(slot.factor, self.speed.chunk_ms(whole_ms), took_ms)
            self._parallel += 1 / slot.pace - before
            named = self._by_replica.values()
            self._mean_factor += (slot.factor - self._mean_factor) / max(8, 2 * len(named))
            relative = slot.factor / self._mean_factor
            took_ms /= relative if abs(relative - 1) > STEP else 1.0
        self.speed.learn(whole_ms, took_ms, share)


def _free_ms(slot: Slot, now_ms: float) -> float:
    """When it will be free; one that is late is taken to need half as long again."""
    if not slot.orders:
        return now_ms
    return slot.free_ms if slot.free_ms > now_ms else now_ms + (now_ms - slot.free_ms) / 2
