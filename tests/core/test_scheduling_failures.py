"""What the scheduler does where replicas die, stall, vanish or come, and where chunks kill."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from deployments.core.events import (
    Action,
    Cancel,
    Event,
    Finished,
    GiveUp,
    Lost,
    Order,
    PoolSize,
    Submit,
    Tick,
)
from deployments.core.planning import PoolSpec
from deployments.core.scheduling import Scheduler

FAST = PoolSpec("fast", 120_000, speed=400.0, overhead_ms=30, max_ongoing=8, start_ms=30_000)
SLOW = PoolSpec("slow", 60_000, speed=100.0, overhead_ms=50, max_ongoing=8, start_ms=30_000)


def _scheduler(*sized: tuple[PoolSpec, int]) -> Scheduler:
    scheduler = Scheduler([spec for spec, _ in sized], max_queue_s=1e9)
    for spec, n_replicas in sized:
        scheduler.on_event(0, PoolSize(spec.name, n_replicas))
    return scheduler


def _orders(actions: list[Action]) -> list[Order]:
    return [action for action in actions if isinstance(action, Order)]


def _until_given_up(scheduler: Scheduler, poisoned: set[int]) -> tuple[list[int], list[int], int]:
    """Plays a request of 20 segments: answered, given up, and how many chunks were lost."""
    open_orders = scheduler.on_event(0, Submit("r", dict.fromkeys(range(20), 5_000)))
    answered: list[int] = []
    given_up: list[int] = []
    n_lost, now_ms = 0, 0.0
    while open_orders:
        action = open_orders.pop(0)
        now_ms += 1_000
        if isinstance(action, GiveUp):
            given_up += action.segments
            continue
        assert isinstance(action, Order)
        lost = bool(poisoned & set(action.segments))
        n_lost += lost
        answered += () if lost else action.segments
        event: Event = Lost(action.order) if lost else Finished(action.order, 5_000, 62.5)
        open_orders += scheduler.on_event(now_ms, event)
    return sorted(answered), given_up, n_lost


def test_a_segment_that_kills_is_found_and_costs_no_other() -> None:
    scheduler = _scheduler((FAST, 3))

    answered, given_up, n_lost = _until_given_up(scheduler, {7})

    assert given_up == [7]
    assert answered == [i for i in range(20) if i != 7]
    assert n_lost == 3  # with its chunk, with its chunk again, alone


def test_a_lost_chunk_goes_to_another_pool() -> None:
    scheduler = _scheduler((FAST, 1), (SLOW, 1))
    (first,) = _orders(scheduler.on_event(0, Submit("r", {0: 3_000})))

    (second,) = _orders(scheduler.on_event(10, Lost(first.order)))

    assert (first.pool, second.pool) == ("fast", "slow")


def test_a_late_chunk_goes_to_an_idle_replica_too_and_counts_once() -> None:
    scheduler = _scheduler((FAST, 1), (SLOW, 1))
    (first,) = _orders(scheduler.on_event(0, Submit("r", {0: 3_000})))

    early = scheduler.on_event(100, Tick())
    (second,) = _orders(scheduler.on_event(1_000, Tick()))
    again = scheduler.on_event(5_000, Tick())
    answered = scheduler.on_event(5_100, Finished(second.order, 3_000, 80.0, "slow#0"))
    lost = scheduler.on_event(5_200, Lost(first.order))

    assert early == again == answered == lost == []
    assert (second.pool, second.segments) == ("slow", (0,))
    assert scheduler.queue_s() == 0


def test_of_two_copies_one_may_die() -> None:
    scheduler = _scheduler((FAST, 1), (SLOW, 1))
    (first,) = _orders(scheduler.on_event(0, Submit("r", {0: 3_000})))
    (second,) = _orders(scheduler.on_event(1_000, Tick()))

    after_one = scheduler.on_event(1_100, Lost(second.order))
    after_both = scheduler.on_event(1_200, Lost(first.order))

    assert after_one == []
    assert [order.segments for order in _orders(after_both)] == [(0,)]


def test_a_late_chunk_stays_where_it_is_if_no_other_pool_could_win() -> None:
    snail = PoolSpec("snail", 60_000, speed=1.0, overhead_ms=50, max_ongoing=8, start_ms=1_000)
    scheduler = _scheduler((FAST, 1), (snail, 1))
    scheduler.on_event(0, Submit("r", {0: 30_000}))

    assert scheduler.on_event(1_000, Tick()) == []


def test_a_pool_that_appears_takes_its_part() -> None:
    scheduler = _scheduler((FAST, 0), (SLOW, 1))
    scheduler.on_event(0, Submit("r", dict.fromkeys(range(200), 20_000)))

    orders = _orders(scheduler.on_event(10, PoolSize("fast", 1)))

    assert orders
    assert {order.pool for order in orders} == {"fast"}


def test_what_a_vanished_pool_had_goes_to_the_others() -> None:
    scheduler = _scheduler((FAST, 1), (SLOW, 1))
    sent = _orders(scheduler.on_event(0, Submit("r", dict.fromkeys(range(9), 3_000))))
    on_fast = [order for order in sent if order.pool == "fast"]
    scheduler.on_event(5, PoolSize("fast", 0))

    again = [o for order in on_fast for o in _orders(scheduler.on_event(10, Lost(order.order)))]

    assert on_fast
    assert {order.pool for order in again} == {"slow"}


def test_a_dead_replica_is_not_counted_although_serve_still_does() -> None:
    scheduler = _scheduler((SLOW, 2))
    orders = _orders(scheduler.on_event(0, Submit("r", dict.fromkeys(range(50), 30_000))))

    scheduler.on_event(1_000, Lost(orders[0].order))
    scheduler.on_event(1_001, Lost(orders[1].order))  # the same replica's second chunk
    soon = scheduler.snapshot()["slow"]["replicas"]
    scheduler.on_event(3_000, PoolSize("slow", 2))
    still = scheduler.snapshot()["slow"]["replicas"]
    scheduler.on_event(20_000, PoolSize("slow", 2))

    assert (soon, still, scheduler.snapshot()["slow"]["replicas"]) == (1, 1, 2)


def test_a_replica_that_could_read_nothing_is_still_counted() -> None:
    scheduler = _scheduler((SLOW, 2))
    (order,) = _orders(scheduler.on_event(0, Submit("r", {0: 30_000})))

    again = _orders(scheduler.on_event(1_000, Lost(order.order, replica_lives=True)))

    assert [o.attempt for o in again] == [2]
    assert scheduler.snapshot()["slow"]["replicas"] == 2


def test_an_order_names_the_replica_once_it_has_answered() -> None:
    scheduler = _scheduler((SLOW, 2))
    sent = _orders(scheduler.on_event(0, Submit("r", dict.fromkeys(range(50), 30_000))))
    scheduler.on_event(600, Finished(sent[0].order, 60_000, 600.0, "slow#a"))

    later = _orders(scheduler.on_event(601, Finished(sent[1].order, 60_000, 600.0, "slow#b")))

    assert {order.replica for order in sent} == {""}
    assert [order.replica for order in later] == ["slow#b"]


def test_the_replica_that_an_error_names_is_taken_out_and_no_other() -> None:
    scheduler = _scheduler((SLOW, 2))
    sent = _orders(scheduler.on_event(0, Submit("r", dict.fromkeys(range(50), 30_000))))
    for order, name in ((sent[0], "slow#a"), (sent[1], "slow#b")):
        sent += _orders(scheduler.on_event(600, Finished(order.order, 60_000, 600.0, name)))

    on_b = [order for order in sent[2:] if order.replica != "slow#a"]
    later = _orders(scheduler.on_event(700, Lost(on_b[-1].order, "slow#b")))
    later += _orders(scheduler.on_event(5_000, Lost(on_b[0].order, "slow#b")))
    for order in sent[2:]:
        later += _orders(scheduler.on_event(5_100, Finished(order.order, 60_000, 600.0, "slow#a")))

    assert scheduler.snapshot()["slow"]["replicas"] == 1
    assert {order.replica for order in later} == {"slow#a"}


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
        self.scheduler = Scheduler(list(self.specs.values()), max_queue_s=1e9)
        self.open: dict[int, Order] = {}
        self.settled: dict[tuple[str, int], int] = {}
        self.now_ms = 0.0

    def tell(self, event: Event) -> None:
        self.now_ms += self.data.draw(st.sampled_from([0.0, 1.0, 300.0, 20_000.0]))
        for action in self.scheduler.on_event(self.now_ms, event):
            if isinstance(action, GiveUp):
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

    def size(self, name: str, n_replicas: int) -> None:
        self.sizes[name] = n_replicas
        self.tell(PoolSize(name, n_replicas))

    def end(self, order: Order, *, well: bool) -> None:
        del self.open[order.order]
        if well:
            fresh = tuple(s for s in order.segments if (order.request, s) not in self.settled)
            self.settle(order.request, fresh)
        padded_ms = self.data.draw(st.integers(1, 300_000))
        replica = f"{order.pool}#{self.data.draw(st.integers(0, 3))}"
        self.tell(Finished(order.order, padded_ms, 50.0, replica) if well else Lost(order.order))


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

    for name in world.specs:
        world.size(name, 1)
    for _ in range(1_000):
        if not world.open:
            break
        world.end(next(iter(world.open.values())), well=True)

    expected = {(request, s) for request, lengths_ms in lengths.items() for s in lengths_ms}
    assert world.settled == dict.fromkeys(expected, 1)


def test_a_cancelled_request_leaves_nothing_behind() -> None:
    scheduler = _scheduler((FAST, 1), (SLOW, 1))
    orders = _orders(scheduler.on_event(0, Submit("r", dict.fromkeys(range(99), 9_000))))
    scheduler.on_event(5_000, Tick())

    scheduler.on_event(5_001, Cancel("r"))
    late = scheduler.on_event(5_002, Lost(orders[0].order))

    assert late == []
    assert scheduler.queue_s() == scheduler.waiting_s == scheduler.backlog_s == 0
