"""A scheduler whose orders a test carries out: one by one, or in simulated time with `play`."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from deployments.core.scheduler.events import (
    Action,
    Event,
    Finished,
    GiveUp,
    Lost,
    Order,
    PoolSize,
    Submit,
)
from deployments.core.scheduler.planning import PoolSpec
from deployments.core.scheduler.scheduler import Scheduler

FAST = PoolSpec("fast", 120_000, speed=400.0, overhead_ms=30, max_ongoing=8, start_ms=30_000)
SLOW = PoolSpec("slow", 60_000, speed=100.0, overhead_ms=50, max_ongoing=8, start_ms=30_000)


def names(pool: str, n_replicas: int) -> tuple[str, ...]:
    """The replicas `pool#0`, `pool#1`, ..."""
    return tuple(f"{pool}#{i}" for i in range(n_replicas))


def orders(actions: Iterable[Action]) -> list[Order]:
    """The orders among the actions."""
    return [action for action in actions if isinstance(action, Order)]


@dataclass
class Ended:
    """What came of playing: when each replica was free, and what each segment came to."""

    at_ms: float = 0.0
    free_ms: dict[str, float] = field(default_factory=dict)  # by replica
    padded_ms: dict[str, int] = field(default_factory=dict)  # computed, by replica
    answered: list[int] = field(default_factory=list)
    given_up: list[int] = field(default_factory=list)
    n_lost: int = 0


class Cluster:
    """Pools with so many replicas each, a scheduler, and the orders that are open.

    A replica computes as its pool's `PoolSpec` says, `times` as slowly.
    """

    def __init__(
        self,
        *sized: tuple[PoolSpec, int],
        max_queue_s: float = 1e9,
        max_interactive_queue_s: float | None = None,
        round_trip_ms: float = 0.0,
    ) -> None:
        self.specs = {spec.name: spec for spec, _ in sized}
        self.scheduler = Scheduler(
            list(self.specs.values()),
            max_queue_s=max_queue_s,
            max_interactive_queue_s=max_interactive_queue_s,
            round_trip_ms=round_trip_ms,
        )
        self.lengths_ms: dict[str, dict[int, int]] = {}
        self.open: list[Order] = []
        self.given_up: list[GiveUp] = []
        for spec, n_replicas in sized:
            self.runs(0, spec.name, *names(spec.name, n_replicas))

    def tell(self, now_ms: float, event: Event) -> list[Order]:
        """The new orders after an event."""
        actions = self.scheduler.on_event(now_ms, event)
        self.given_up += [action for action in actions if isinstance(action, GiveUp)]
        new = orders(actions)
        self.open += new
        return new

    def runs(self, now_ms: float, pool: str, *replicas: str) -> list[Order]:
        """Serve says which replicas the pool has."""
        return self.tell(now_ms, PoolSize(pool, replicas))

    def submit(
        self,
        now_ms: float,
        request: str,
        lengths_ms: Mapping[int, int],
        *,
        coming_ms: int = 0,
        interactive: bool | None = None,
    ) -> list[Order]:
        """A request comes, or more of one."""
        self.lengths_ms.setdefault(request, {}).update(lengths_ms)
        event = Submit(request, dict(lengths_ms), coming_ms=coming_ms, interactive=interactive)
        return self.tell(now_ms, event)

    def padded_ms(self, order: Order) -> int:
        """The padded audio of a chunk."""
        lengths_ms = self.lengths_ms[order.request]
        return len(order.segments) * max(lengths_ms[s] for s in order.segments)

    def busy_ms(self, order: Order, *, times: float = 1.0) -> float:
        """How long the order's replica computes it."""
        spec = self.specs[order.pool]
        return times * (spec.overhead_ms + self.padded_ms(order) / spec.speed)

    def answer(
        self, now_ms: float, order: Order, *, times: float = 1.0, replica: str = ""
    ) -> list[Order]:
        """The order's replica, or the one that is named, answers it."""
        self.open.remove(order)
        busy_ms = self.busy_ms(order, times=times)
        who = replica or order.replica
        return self.tell(now_ms, Finished(order.order, self.padded_ms(order), busy_ms, who))

    def answer_all(self, now_ms: float, some: Sequence[Order]) -> list[Order]:
        """All these orders are answered at once."""
        return [new for order in list(some) for new in self.answer(now_ms, order)]

    def lose(
        self, now_ms: float, order: Order, replica: str = "", *, lives: bool = False
    ) -> list[Order]:
        """The order is reported lost."""
        self.open.remove(order)
        return self.tell(now_ms, Lost(order.order, replica, lives))

    def kill(self, now_ms: float, replica: str) -> list[Order]:
        """The replica dies: each of its orders is reported lost with it, the last one first."""
        mine = [order for order in reversed(self.open) if order.replica == replica]
        return [new for order in mine for new in self.lose(now_ms, order, replica)]

    def of(self, request: str) -> list[Order]:
        """The open orders of a request."""
        return [order for order in self.open if order.request == request]

    def play(
        self,
        now_ms: float = 0.0,
        *,
        until: Callable[[Order], bool] = lambda order: False,
        times: Mapping[str, float] | None = None,
        kills: Callable[[Order], bool] = lambda order: False,
    ) -> Ended:
        """Lets the replicas compute what is open, until an order of that kind is given.

        `times` is how slowly each replica computes. Orders that `kills` are lost when they end;
        the replica is replaced at once under its own name, so that all else stays as it is.
        """
        ended = Ended(now_ms)
        events: list[tuple[float, int, Order, float]] = []
        answered: set[tuple[str, int]] = set()  # the first answer to a segment counts

        def start(at_ms: float, order: Order) -> None:
            slowness = (times or {}).get(order.replica, 1.0)
            begin_ms = max(at_ms, ended.free_ms.get(order.replica, at_ms))
            ended.free_ms[order.replica] = begin_ms + self.busy_ms(order, times=slowness)
            heapq.heappush(events, (ended.free_ms[order.replica], order.order, order, slowness))

        for order in self.open:
            start(now_ms, order)
        while events:
            ended.at_ms, _, order, slowness = heapq.heappop(events)
            if kills(order):
                ended.n_lost += 1
                new = self.lose(ended.at_ms, order, order.replica, lives=True)
            else:
                new = self.answer(ended.at_ms, order, times=slowness)
                fresh = [s for s in order.segments if (order.request, s) not in answered]
                answered.update((order.request, s) for s in fresh)
                ended.answered += fresh
                computed_ms = ended.padded_ms.get(order.replica, 0)
                ended.padded_ms[order.replica] = computed_ms + self.padded_ms(order)
            for one in new:
                start(ended.at_ms, one)
            if any(until(one) for one in new):
                break
        ended.given_up = [s for action in self.given_up for s in action.segments]
        return ended
