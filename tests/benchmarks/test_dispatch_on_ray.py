"""What the makespans on real Ray are compared with."""

from __future__ import annotations

import os

import pytest

from benchmarks.dispatch_fleets import bound_s, together
from benchmarks.dispatch_on_ray import FLEET, plan_s, recording
from benchmarks.environment import environment
from benchmarks.sleeping_cluster import CARDS

LENGTHS_S = recording(3600, 0)
WHOLE = tuple(CARDS[name] for name in FLEET)


def test_the_plan_without_a_death_is_that_of_the_trial() -> None:
    assert plan_s(LENGTHS_S, FLEET) == pytest.approx(together(LENGTHS_S, WHOLE)[0])


def test_a_plan_at_a_quarter_of_the_speed_takes_four_times_as_long() -> None:
    assert plan_s(LENGTHS_S, FLEET, slow_down=4) == pytest.approx(4 * plan_s(LENGTHS_S, FLEET))


@pytest.mark.parametrize("card", range(len(FLEET)))
def test_a_death_costs_less_the_later_it_comes(card: int) -> None:
    whole_s = plan_s(LENGTHS_S, FLEET)
    without_s = bound_s(LENGTHS_S, [gpu for i, gpu in enumerate(WHOLE) if i != card])

    early, late, never = (
        plan_s(LENGTHS_S, FLEET, until_s={card: part * whole_s}) for part in (0.0, 0.5, 1.5)
    )

    assert without_s < early
    assert early > late > never == pytest.approx(whole_s)


def test_what_is_set_for_a_cluster_is_not_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASR_TEST_SET", "mine")
    monkeypatch.delenv("ASR_TEST_UNSET", raising=False)
    before = dict(os.environ)

    def fail_inside() -> None:
        with environment({"ASR_TEST_SET": "other", "ASR_TEST_UNSET": "for a while"}):
            assert os.environ["ASR_TEST_SET"] == "mine"
            assert os.environ["ASR_TEST_UNSET"] == "for a while"
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        fail_inside()

    assert dict(os.environ) == before
