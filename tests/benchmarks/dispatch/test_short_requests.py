"""Short requests beside a file of ten hours: the bar, on each of the five fleets."""

from __future__ import annotations

from statistics import median

import pytest

from benchmarks.dispatch.fleets import A100, FLEETS, T4
from benchmarks.dispatch.short_requests import SEEDS, simulated
from benchmarks.dispatch.short_traffic import P95, arrivals, fastest_chunk_ms


@pytest.mark.slow
@pytest.mark.parametrize("name", FLEETS)
def test_short_requests_wait_at_most_twice_as_long_or_one_chunk_longer(name: str) -> None:
    found = [simulated(FLEETS[name], seed) for seed in range(SEEDS)]

    assert median(p95.over_bar for p95 in found) <= 1


@pytest.mark.parametrize(
    ("beside_ms", "over_bar"), [(200.0, 1.0), (300.0, 1.5)], ids=["twice", "three times"]
)
def test_the_bar_is_the_larger_of_twice_the_figure_and_one_chunk_more(
    beside_ms: float, over_bar: float
) -> None:
    assert P95(100.0, beside_ms, chunk_ms=50.0).over_bar == over_bar
    assert P95(100.0, beside_ms, chunk_ms=200.0).over_bar == beside_ms / 300.0


def test_the_chunk_is_a_full_one_on_the_fastest_type() -> None:
    fleet = (T4, A100)

    assert fastest_chunk_ms(fleet, fleet) == 1000 * (A100.overhead_s + 300 / A100.speed)


def test_a_fifth_of_the_speed_is_asked_for() -> None:
    came = arrivals(100.0, time_s=2000.0, seed=0)

    audio_s = sum(sum(lengths_ms) for _, lengths_ms in came) / 1000
    assert audio_s / 2000 == pytest.approx(20, rel=0.25)
