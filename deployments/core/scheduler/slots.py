"""One replica of a pool: the orders it has, when it will be free, and how fast it is."""

from __future__ import annotations

from dataclasses import dataclass, field

from deployments.core.scheduler.speeds import SpeedFit

OVERDUE = 0.5  # overdue work needs this part of the time that it is overdue by, once more


def remaining_ms(now_ms: float, end_ms: float) -> float:
    """How long work still takes that was expected to end at `end_ms`.

    Work that is overdue is slower than thought, by a factor that nobody knows. The longer it has
    been overdue, the longer it will probably still take, so a fixed part of that time is assumed.
    """
    return end_ms - now_ms if end_ms > now_ms else OVERDUE * (now_ms - end_ms)


@dataclass(slots=True)
class Place:
    """What an order costs its replica. `slot` is None where the pool had no replica."""

    padded_ms: int
    work_ms: float
    slot: Slot | None
    start_ms: float = 0.0  # when its replica is expected to start it
    restart_ms: float = 0.0  # its replica is gone: how long another needs to start in its place

    @property
    def end_ms(self) -> float:
        """When its replica is expected to be done with it."""
        return self.start_ms + self.work_ms


@dataclass(slots=True)
class Slot:
    """A replica's orders, in the order in which it will compute them."""

    number: int  # from 1
    replica: str
    speed: SpeedFit
    orders: dict[int, Place] = field(default_factory=dict)
    free_ms: float = 0.0  # when it is expected to have computed all of them
    queued_ms: int = 0  # their padded audio

    def will_be_free_ms(self, now_ms: float) -> float:
        """When the replica will have nothing to do."""
        return now_ms + remaining_ms(now_ms, self.free_ms) if self.orders else now_ms

    def append(self, now_ms: float, order: int, place: Place) -> float:
        """Puts the order behind the others; returns when the replica is done with it."""
        place.slot = self
        place.start_ms = max(now_ms, self.free_ms) if self.orders else now_ms
        self.orders[order] = place
        self.queued_ms += place.padded_ms
        return place.end_ms

    def remove(self, now_ms: float, order: int) -> float:
        """Takes the order out; returns when the replica is done with the others."""
        gone = self.orders.pop(order, None)
        self.queued_ms -= gone.padded_ms if gone else 0
        at_ms = now_ms
        for index, place in enumerate(self.orders.values()):
            if index or place.start_ms > now_ms:  # the first one has been started already
                place.start_ms = at_ms
            at_ms = max(now_ms, place.end_ms)
        return at_ms
