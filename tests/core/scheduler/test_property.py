"""The scheduler among any pools and any misfortunes: every segment is settled once."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from deployments.core.scheduler.events import (
    Event,
    Finished,
    GiveUp,
    Lost,
    Order,
    PoolSize,
    Submit,
    Tick,
)
from deployments.core.scheduler.planning import PoolSpec
from deployments.core.scheduler.scheduler import Scheduler

pools = st.lists(
    st.builds(
        PoolSpec,
        name=st.uuids().map(str),
        batch_audio_ms=st.sampled_from([1_000, 30_000, 300_000]),
        speed=st.sampled_from([5.0, 100.0, 5_000.0]),
        overhead_ms=st.sampled_from([0.0, 30.0, 1_000.0]),
        max_ongoing=st.integers(1, 8),
        start_ms=st.sampled_from([100.0, 30_000.0]),
        can_start=st.booleans(),
    ),
    min_size=1,
    max_size=4,
    unique_by=lambda spec: spec.name,
)


class _World:
    """Carries out orders at random, and checks each as it comes."""

    def __init__(self, data: st.DataObject) -> None:
        self.data = data
        self.specs = {spec.name: spec for spec in data.draw(pools)}
        self.sizes = dict.fromkeys(self.specs, 0)
        self.running: dict[str, list[str]] = {name: [] for name in self.specs}
        self.n_started = 0
        self.dead: set[str] = set()  # what such a one had is lost too, but is told later
        self.scheduler = Scheduler(list(self.specs.values()), max_queue_s=1e9)
        self.open: dict[int, Order] = {}
        self.settled: dict[tuple[str, int], int] = {}
        self.losses: Counter[tuple[str, int]] = Counter()
        self.now_ms = 0.0

    def tell(self, event: Event) -> None:
        self.now_ms += self.data.draw(st.sampled_from([0.0, 1.0, 300.0, 20_000.0]))
        for action in self.scheduler.on_event(self.now_ms, event):
            if isinstance(action, GiveUp):
                assert all(self.losses[action.request, s] >= 2 for s in action.segments)
                self.settle(action.request, action.segments)
            if isinstance(action, Order):
                self.check(action)
                self.open[action.order] = action

    def settle(self, request: str, segments: tuple[int, ...]) -> None:
        for segment in segments:
            self.settled[request, segment] = self.settled.get((request, segment), 0) + 1

    def check(self, order: Order) -> None:
        spec, n_replicas = self.specs[order.pool], self.sizes[order.pool]
        assert n_replicas or spec.can_start
        assert len(set(order.segments)) == len(order.segments)
        there = [o for o in self.open.values() if o.pool == order.pool]
        assert len(there) < max(1, n_replicas) * spec.max_ongoing
        if n_replicas:
            all_dead = self.dead.issuperset(self.names(order.pool))
            assert order.replica in self.names(order.pool) or (all_dead and not order.replica)
        if n_replicas and order.replica not in self.dead:
            same = [o for o in there if o.replica == order.replica]
            assert len(same) < spec.max_ongoing

    def names(self, pool: str) -> tuple[str, ...]:
        return tuple(self.running[pool])

    def size(self, name: str, n_replicas: int) -> None:
        self.sizes[name] = n_replicas
        del self.running[name][n_replicas:]
        while len(self.running[name]) < n_replicas:  # a name is never used again
            self.n_started += 1
            self.running[name].append(f"{name}#{self.n_started}")
        self.tell(PoolSize(name, self.names(name)))

    def end(self, order: Order, *, well: bool) -> None:
        del self.open[order.order]
        replica = order.replica or f"{order.pool}#{self.data.draw(st.integers(0, 3))}"
        if not well:
            kinds = (
                Lost(order.order, name, lives) for name in ("", replica) for lives in (False, True)
            )
            lost = self.data.draw(st.sampled_from(list(kinds)))
            if not lost.replica_lives:
                self.dead.update((order.replica, lost.replica))
                gone = lost.replica  # with all that it had
                mine = [n for n, o in self.open.items() if gone and o.replica == gone]
                self.open = {n: o for n, o in self.open.items() if n not in mine}
            self.losses.update((order.request, s) for s in order.segments)
            self.tell(lost)
            return
        fresh = tuple(s for s in order.segments if (order.request, s) not in self.settled)
        self.settle(order.request, fresh)
        self.tell(Finished(order.order, self.data.draw(st.integers(1, 300_000)), 50.0, replica))


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_every_segment_of_every_request_is_settled_once_whatever_happens(
    data: st.DataObject,
) -> None:
    world = _World(data)
    for name in world.specs:
        world.size(name, data.draw(st.integers(0, 3)))
    lengths = {
        f"r{i}": data.draw(
            st.dictionaries(st.integers(0, 60), st.integers(1, 30_000), min_size=1, max_size=30)
        )
        for i in range(data.draw(st.integers(1, 4)))
    }
    for request, lengths_ms in lengths.items():
        world.tell(Submit(request, lengths_ms))
    for _ in range(data.draw(st.integers(0, 30))):
        what = data.draw(st.sampled_from(["ends", "dies", "ticks", "size", "again"]))
        if what in ("ends", "dies") and world.open:
            order = world.open[data.draw(st.sampled_from(sorted(world.open)))]
            world.end(order, well=what == "ends")
        elif what == "ticks":
            world.tell(Tick())
        elif what == "size":
            world.size(
                data.draw(st.sampled_from(sorted(world.specs))), data.draw(st.integers(0, 3))
            )
        elif what == "again":
            request = data.draw(st.sampled_from(sorted(lengths)))
            missing = {
                s: ms for s, ms in lengths[request].items() if (request, s) not in world.settled
            }
            world.tell(Submit(request, missing, again=True))

    for name in world.specs:  # what died is replaced
        world.size(name, 0)
        world.size(name, 1)
    for _ in range(1_000):
        if not world.open:
            break
        world.end(next(iter(world.open.values())), well=True)

    assert (world.scheduler.waiting_s, world.scheduler.backlog_s) == (0, 0)
    expected = {(request, s) for request, lengths_ms in lengths.items() for s in lengths_ms}
    assert world.settled == dict.fromkeys(expected, 1)
