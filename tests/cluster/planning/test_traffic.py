"""The queueing model, compared with a simulated queue and at its limits."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.planning.traffic import MOST_BUSY, Traffic, alone_s, busy, capacity_needed, p95_s
from deployments.core.errors import BadRequest


def simulated_p95_s(traffic: Traffic, capacity: float, *, seed: int, n: int = 200_000) -> float:
    """p95 of a simulated queue: one server, first come, first served, Poisson arrivals, CV2 = 1.

    As in the model, waits are those of random recordings, and a recording of mean length is served.
    """
    rng = random.Random(seed)
    one_s = traffic.recording_s / capacity
    gap_s = traffic.recording_s / traffic.peak
    wait_s, waits = 0.0, []
    for _ in range(n):
        waits.append(wait_s)
        wait_s = max(0.0, wait_s + rng.expovariate(1 / one_s) - rng.expovariate(1 / gap_s))
    return sorted(waits)[int(0.95 * n)] + one_s + alone_s(traffic)


@pytest.mark.parametrize("capacity", [700.0, 900.0, 1400.0])
def test_the_formula_agrees_with_a_simulated_queue(capacity: float) -> None:
    traffic = Traffic(hours_per_day=4000, recording_min=30)

    assert p95_s(traffic, capacity) == pytest.approx(
        simulated_p95_s(traffic, capacity, seed=1), rel=0.1
    )


def test_a_fleet_slower_than_the_traffic_never_catches_up() -> None:
    traffic = Traffic(hours_per_day=2400)  # 100 x real time on average, 300 at the peak

    assert traffic.peak == pytest.approx(300)
    assert p95_s(traffic, 299.0) == math.inf
    assert busy(traffic, 600.0) == pytest.approx(0.5)


@given(
    st.floats(0, 1e5), st.integers(1, 50), st.floats(0.1, 120), st.floats(0.1, 60), st.floats(1, 9)
)
def test_the_needed_capacity_meets_the_aims_and_1_percent_less_does_not(
    hours: float, concurrent: int, minutes: float, beyond_s: float, peak_factor: float
) -> None:
    least_s = alone_s(Traffic(recording_min=minutes))
    traffic = Traffic(hours, concurrent, minutes, least_s + beyond_s, peak_factor)

    needed = capacity_needed(traffic)

    assert traffic.p95_s is not None
    assert busy(traffic, needed) <= MOST_BUSY + 1e-9
    assert p95_s(traffic, needed) <= traffic.p95_s + 1e-9
    less = needed * 0.99
    assert busy(traffic, less) > MOST_BUSY or p95_s(traffic, less) > traffic.p95_s


def test_an_aim_below_the_time_of_one_recording_alone_is_refused() -> None:
    with pytest.raises(BadRequest, match="cannot be met by any fleet"):
        capacity_needed(Traffic(recording_min=120, p95_s=5))


def test_recordings_sent_together_wait_for_each_other() -> None:
    one = p95_s(Traffic(concurrent=1), 1000.0)
    ten = p95_s(Traffic(concurrent=10), 1000.0)

    assert ten - one == pytest.approx(9 * 1.8)
