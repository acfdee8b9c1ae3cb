"""The autoscaling policy: what holds for every decision, whatever the load and the pools."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.dispatch.fluid import direction_changes, run
from cluster.autoscaling import START_PATIENCE, Aims, Load, PoolLoad, State, cheapest, decide

AIMS = Aims(drain_s=60, give_back_after_s=300)
CHEAP = PoolLoad("cheap", 0, 0, 0, 4, speed=10, price=1, start_s=20)
DEAR = PoolLoad("dear", 0, 0, 0, 4, speed=30, price=9, start_s=20)


def pool(index: int) -> st.SearchStrategy[PoolLoad]:
    return st.builds(
        lambda low, more, target, running, speed, price: PoolLoad(
            f"pool-{index}", min(running, low + more), min(target, low + more), low, low + more,
            speed, price,
        ),
        st.integers(0, 3),
        st.integers(0, 12),
        st.integers(0, 15),
        st.integers(0, 15),
        st.floats(0.5, 500),
        st.floats(0.05, 20),
    )  # fmt: skip


POOLS = st.integers(1, 4).flatmap(lambda n: st.tuples(*(pool(i) for i in range(n))))
BACKLOG_S = st.floats(0, 1e6)


def speed_of(desired: dict[str, int], pools: tuple[PoolLoad, ...]) -> float:
    return sum(p.speed * desired[p.name] for p in pools)


def after_window(backlog_s: float, pools: tuple[PoolLoad, ...], arriving: float = 0.0) -> State:
    """The state after a whole window in which the backlog did not change."""
    state = State()
    for now_s in range(0, 301, 15):
        _, state = decide(now_s, Load(backlog_s, arriving * now_s), pools, state, AIMS)
    return state


def decisions(
    pools: tuple[PoolLoad, ...], backlogs_s: list[float], step_s: float
) -> Iterator[dict[str, int]]:
    """The decisions for these backlogs, one every `step_s`."""
    state = State()
    for i, backlog_s in enumerate(backlogs_s):
        desired, state = decide(i * step_s, Load(backlog_s, 0), pools, state, AIMS)
        yield desired


@given(POOLS, st.lists(BACKLOG_S, min_size=1, max_size=30), st.floats(0.1, 200))
def test_every_decision_is_within_the_bounds_of_its_pool(
    pools: tuple[PoolLoad, ...], backlogs_s: list[float], step_s: float
) -> None:
    made = list(decisions(pools, backlogs_s, step_s))

    bounds = {p.name: (p.min_replicas, p.max_replicas) for p in pools}
    counts = [(*bounds[name], n) for desired in made for name, n in desired.items()]
    assert len(counts) == len(backlogs_s) * len(pools)
    assert all(least <= n <= most for least, most, n in counts)


@given(POOLS, BACKLOG_S, st.floats(1, 10))
def test_a_larger_backlog_never_gets_a_slower_fleet(
    pools: tuple[PoolLoad, ...], backlog_s: float, factor: float
) -> None:
    state = after_window(0.0, pools)

    less, _ = decide(301, Load(backlog_s, 0), pools, state, AIMS)
    more, _ = decide(301, Load(backlog_s * factor, 0), pools, state, AIMS)

    assert speed_of(more, pools) >= speed_of(less, pools) * (1 - 1e-9)


@given(POOLS, st.floats(0.01, 1e4), st.floats(1, 10))
def test_more_need_never_costs_less(
    pools: tuple[PoolLoad, ...], need: float, factor: float
) -> None:
    room = {p.name: p.max_replicas for p in pools}

    def price(wanted: float) -> float:
        chosen = cheapest(wanted, pools, room)
        return sum(p.price * chosen.get(p.name, 0) for p in pools)

    assert price(need * factor) >= price(need) * (1 - 1e-9)


@given(POOLS, st.floats(0.01, 1e4))
def test_the_cheapest_replicas_meet_the_need_or_are_all_there_are(
    pools: tuple[PoolLoad, ...], need: float
) -> None:
    room = {p.name: p.max_replicas for p in pools}

    chosen = cheapest(need, pools, room)

    reached = sum(p.speed * chosen.get(p.name, 0) for p in pools)
    everything = sum(p.speed * p.max_replicas for p in pools)
    assert reached >= min(need, everything) * (1 - 1e-6)
    assert all(0 < chosen[name] <= room[name] for name in chosen)


@given(POOLS)
def test_a_fleet_without_work_shrinks_to_its_minimum(pools: tuple[PoolLoad, ...]) -> None:
    state = after_window(0.0, pools)

    desired, _ = decide(301, Load(0, 0), pools, state, AIMS)

    assert desired == {p.name: p.min_replicas for p in pools}


def test_the_cheap_pool_grows_first_and_the_dear_one_when_it_is_full() -> None:
    some, _ = decide(0, Load(60 * 25, 0), [CHEAP, DEAR], State(), AIMS)
    much, _ = decide(0, Load(60 * 65, 0), [CHEAP, DEAR], State(), AIMS)

    assert some == {"cheap": 3, "dear": 0}
    assert much == {"cheap": 4, "dear": 1}


def test_a_little_work_does_not_start_a_large_card_that_only_much_work_makes_cheaper() -> None:
    small = PoolLoad("T4", 0, 0, 0, 8, speed=1, price=0.5)
    large = PoolLoad("H200", 0, 0, 0, 2, speed=36, price=8)

    little, _ = decide(0, Load(60 * 2, 0), [small, large], State(), AIMS)
    much, _ = decide(0, Load(60 * 30, 0), [small, large], State(), AIMS)

    assert little == {"T4": 2, "H200": 0}
    assert much == {"T4": 0, "H200": 1}


def test_the_dear_pool_is_given_back_first() -> None:
    pools = (replace(CHEAP, running=4, target=4), replace(DEAR, running=2, target=2))
    state = after_window(60 * 30, pools)

    desired, _ = decide(301, Load(60 * 30, 0), pools, state, AIMS)

    assert desired == {"cheap": 4, "dear": 0}


def test_replicas_that_the_arriving_audio_needs_are_kept() -> None:
    pools = (replace(CHEAP, running=4, target=4),)
    state = after_window(0.0, pools, arriving=30)

    desired, _ = decide(301, Load(0, 301 * 30), pools, state, AIMS)

    assert desired == {"cheap": 4}


def test_nothing_is_given_back_before_the_window_has_passed() -> None:
    pools = (replace(CHEAP, running=4, target=4),)
    _, state = decide(0, Load(60 * 40, 0), pools, State(), AIMS)

    early, state = decide(290, Load(0, 0), pools, state, AIMS)
    late, _ = decide(620, Load(0, 0), pools, state, AIMS)

    assert (early, late) == ({"cheap": 4}, {"cheap": 0})


def test_if_a_pools_replicas_do_not_start_another_pool_grows() -> None:
    pools = (replace(CHEAP, target=3), DEAR)
    load = Load(60 * 25, 0)
    patience_s = START_PATIENCE * CHEAP.start_s

    waiting, state = decide(0, load, pools, State(), AIMS)
    enough, _ = decide(patience_s + 1, load, pools, state, AIMS)

    assert waiting == {"cheap": 3, "dear": 0}
    assert enough == {"cheap": 3, "dear": 1}


def test_a_counter_that_restarts_does_not_make_the_fleet_shrink() -> None:
    pools = (replace(CHEAP, running=4, target=4),)
    state = after_window(0.0, pools, arriving=30)

    desired, _ = decide(301, Load(0, 0), pools, state, AIMS)  # the dispatcher was replaced

    assert desired == {"cheap": 4}


def square(period_s: float, high: float) -> Callable[[float], float]:
    return lambda now_s: high if now_s % period_s < period_s / 2 else 0.0


@pytest.mark.slow
@settings(max_examples=10)
@given(st.floats(20, 200), st.floats(5, 60))
def test_a_square_wave_shorter_than_two_thirds_of_the_window_does_not_make_the_fleet_swing(
    period_s: float, high: float
) -> None:
    trace = run(square(period_s, high), [CHEAP, DEAR], AIMS, duration_s=7200)

    assert direction_changes(trace) <= 1  # it grows, then gives back the extra of the cold start
    assert direction_changes(trace[len(trace) // 2 :]) == 0


@settings(max_examples=10)
@given(st.floats(900, 3000), st.floats(5, 150))
def test_the_fleet_follows_a_slow_square_wave_up_and_down_once_in_each_period(
    period_s: float, high: float
) -> None:
    n_periods = 4
    trace = run(square(period_s, high), [CHEAP, DEAR], AIMS, duration_s=n_periods * period_s)

    assert direction_changes(trace) <= 2 * n_periods


@pytest.mark.slow
@settings(max_examples=10)
@given(st.floats(1, 150))
def test_under_a_steady_load_the_fleet_meets_it_and_stops_changing(load: float) -> None:
    trace = run(lambda _: load, [CHEAP, DEAR], AIMS, duration_s=7200)

    assert direction_changes(trace) <= 1
    assert direction_changes(trace[len(trace) // 2 :]) == 0
    assert max(moment.backlog_s for moment in trace[len(trace) // 2 :]) <= 1.05 * 60 * load


@pytest.mark.parametrize("mean", range(10, 101, 15))
def test_noise_does_not_make_the_fleet_swing(mean: int) -> None:
    noise = random.Random(mean)
    load = [mean * noise.uniform(0.5, 1.5) for _ in range(7200)]

    trace = run(lambda now_s: load[int(now_s) % 7200], [CHEAP, DEAR], AIMS, duration_s=7200)

    assert direction_changes(trace) <= 3  # in two hours, while the load varies by half


@pytest.mark.parametrize("load", [5.0, 100.0])
def test_after_the_load_ends_the_fleet_shrinks_to_zero(load: float) -> None:
    trace = run(lambda t: load if t < 600 else 0.0, [CHEAP, DEAR], AIMS, duration_s=1800)

    assert max(sum(moment.desired.values()) for moment in trace) > 0
    assert trace[-1].desired == {"cheap": 0, "dear": 0}
    assert trace[-1].backlog_s == 0
