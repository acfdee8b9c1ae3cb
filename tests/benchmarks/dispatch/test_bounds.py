"""The bound on the audio that a fleet can expect to do: no policy beats it; a good one is near."""

from __future__ import annotations

import random
from statistics import mean, median

import pytest

from benchmarks.dispatch.bounds import bound_known_s, bound_unknown_s, fluid_s
from benchmarks.dispatch.fleets import A100, L4, NOISE, T4, Fleet, Gpu, as_they_are

FLEET: Fleet = (A100,) * 3 + (L4,) * 3 + (T4,) * 3


def _done_s(gpu: Gpu, time_s: float, share: float, rng: random.Random) -> float:
    """Audio done in time by a GPU whose batches fill this share of the time that is left."""
    at_s, done_s = 0.0, 0.0
    while True:
        work_s = min((time_s - at_s) * share - gpu.overhead_s, gpu.batch_audio_s / gpu.speed)
        if work_s <= 0:
            return done_s
        at_s += (gpu.overhead_s + work_s) * rng.lognormvariate(0, NOISE)
        if at_s > time_s:
            return done_s
        done_s += work_s * gpu.speed


@pytest.mark.parametrize("audio_s", [300.0, 3600.0])
def test_no_policy_expects_more_than_the_bound_and_a_good_one_comes_near(audio_s: float) -> None:
    time_s = bound_known_s(audio_s, FLEET, 10.0)
    rng = random.Random(0)

    expected = {
        share: mean(sum(_done_s(gpu, time_s, share, rng) for gpu in FLEET) for _ in range(1_500))
        for share in (0.7, 0.8, 0.85, 0.9, 1.0)
    }

    assert 0.93 * audio_s < max(expected.values()) < 1.01 * audio_s


def test_a_plan_for_pieces_of_any_length_comes_after_the_bound() -> None:
    audio_s = 3600.0
    fluid = [fluid_s(audio_s, FLEET, 0.9, random.Random(seed)) for seed in range(9)]

    assert 1.0 < median(fluid) / bound_known_s(audio_s, FLEET, 10.0) < 1.2


def test_not_to_know_the_speeds_costs_time() -> None:
    audio_s = 3600.0
    known_s = mean(
        bound_known_s(audio_s, as_they_are(FLEET * 4, random.Random(seed)), 10.0)
        for seed in range(3)
    )

    assert bound_unknown_s(audio_s, FLEET * 4, 10.0) > known_s
