"""The plan that the makespans on real Ray are compared with."""

from __future__ import annotations

import pytest

from benchmarks.dispatch.cards import CARDS, FLEET
from benchmarks.dispatch.fleets import bound_s, together
from benchmarks.dispatch.on_ray import plan_s, recording

LENGTHS_S = recording(3600, 0)
WHOLE = tuple(CARDS[name] for name in FLEET)


def test_without_a_death_the_plan_is_the_ideal_plan() -> None:
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
