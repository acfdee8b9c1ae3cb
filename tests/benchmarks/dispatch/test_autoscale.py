"""The simulated days of load: their figures and their picture."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.dispatch.autoscale import run_day, waits
from benchmarks.dispatch.fluid import Moment


@pytest.fixture(scope="module")
def days(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, float], Path]:
    """The figures of both days, and the picture."""
    picture = tmp_path_factory.mktemp("autoscale") / "day.png"
    return {name: float(value) for name, value in run_day(plot=picture).items()}, picture


def moments(*arriving_and_backlog: tuple[float, float]) -> list[Moment]:
    return [Moment(i * 5.0, a, b, {}, {}) for i, (a, b) in enumerate(arriving_and_backlog)]


def test_audio_done_in_its_own_step_does_not_wait_and_other_audio_waits_for_all_before_it() -> None:
    trace = moments((10, 0), (10, 50), (0, 25), (0, 0))

    assert waits(trace) == [0.0, 10.0]


@pytest.mark.slow
@pytest.mark.parametrize("day", ["square", "working_day"])
def test_the_fleet_turns_no_more_often_than_its_load_and_drains_in_time(
    days: tuple[dict[str, float], Path], day: str
) -> None:
    figures, _ = days

    assert figures[f"{day}_direction_changes"] <= figures[f"{day}_load_changes"]
    assert figures[f"{day}_wait_p95_s"] <= figures[f"{day}_drain_s"]
    assert figures[f"{day}_usd"] < 0.6 * figures[f"{day}_usd_always_on"]


@pytest.mark.slow
def test_the_days_are_drawn_as_a_picture(days: tuple[dict[str, float], Path]) -> None:
    _, picture = days

    assert picture.read_bytes().startswith(b"\x89PNG")
