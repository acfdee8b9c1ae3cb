"""One replica of a pool: the orders it is thought to have, and its speed."""

from __future__ import annotations

from dataclasses import dataclass, field

from deployments.core.speeds import SpeedFit


@dataclass(slots=True)
class Place:
    """An order's cost in its pool."""

    padded_ms: int
    work_ms: float
    slot: Slot | None
    begin_ms: float = 0.0


@dataclass(slots=True)
class Slot:
    """What a replica has, first come first."""

    number: int
    speed: SpeedFit  # its own, once it has answered
    replica: str = ""  # its name, once known
    orders: dict[int, Place] = field(default_factory=dict)
    free_ms: float = 0.0
    queued_ms: int = 0  # padded audio of its orders

    def will_be_free_ms(self, now_ms: float) -> float:
        """When it has nothing to do; one that is late is taken to need half as long again."""
        if not self.orders:
            return now_ms
        return self.free_ms if self.free_ms > now_ms else now_ms + (now_ms - self.free_ms) / 2

    def take(self, now_ms: float, order: int, place: Place) -> float:
        """Puts the order behind the others; when it is done."""
        place.slot = self
        place.begin_ms = max(now_ms, self.free_ms) if self.orders else now_ms
        self.orders[order] = place
        self.queued_ms += place.padded_ms
        return place.begin_ms + place.work_ms

    def leave(self, now_ms: float, order: int) -> float:
        """Takes the order out; when the others are done."""
        gone = self.orders.pop(order, None)
        self.queued_ms -= gone.padded_ms if gone else 0
        at_ms = now_ms
        for index, waiting in enumerate(self.orders.values()):
            if index or waiting.begin_ms > now_ms:
                waiting.begin_ms = at_ms
            at_ms = max(now_ms, waiting.begin_ms + waiting.work_ms)
        return at_ms

    def exchange(self, order: int, other: Slot) -> None:
        """The order was the other's; its oldest is this one's, if it has any."""
        mine = self.orders.pop(order, None)
        if mine is None:
            return
        self.queued_ms -= mine.padded_ms
        if other.orders:
            number, moved = next(iter(other.orders.items()))
            del other.orders[number]
            other.queued_ms -= moved.padded_ms
            self.orders = {number: moved, **self.orders}
            self.queued_ms += moved.padded_ms
            moved.slot = self
