"""The simulated days: what their figures say, and the picture."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.autoscale import run_day, waits
from benchmarks.fluid import Moment


def moments(*arriving_and_backlog: tuple[float, float]) -> list[Moment]:
    return [Moment(i * 5.0, a, b, {}, {}) for i, (a, b) in enumerate(arriving_and_backlog)]


def test_what_is_done_in_its_own_step_did_not_wait_and_the_rest_waits_until_all_before_it_is() -> (
    None
):
    trace = moments((10, 0), (10, 50), (0, 25), (0, 0))

    assert waits(trace) == [0.0, 10.0]


@pytest.mark.slow
def test_over_a_day_the_fleet_turns_no_more_often_than_its_load_and_drains_in_time(
    tmp_path: Path,
) -> None:
    picture = tmp_path / "day.png"

    figures = {name: float(value) for name, value in run_day(plot=picture).items()}

    for day in ("square", "working_day"):
        assert figures[f"{day}_direction_changes"] <= figures[f"{day}_load_changes"]
        assert figures[f"{day}_wait_p95_s"] <= figures[f"{day}_drain_s"]
        assert figures[f"{day}_usd"] < 0.6 * figures[f"{day}_usd_always_on"]
    assert picture.read_bytes().startswith(b"\x89PNG")
