"""The simulated cluster with the autoscaling policy of production, cold starts included."""

from __future__ import annotations

import random
import re
from itertools import pairwise

import pytest
import typer
from typer.testing import CliRunner

from cluster.autoscaling import Aims
from cluster.simulation.command import START_MS, fleet, latencies_ms, segments_ms, simulate
from cluster.simulation.policy import POLICY_EVERY_MS, Autoscaler, from_nothing, running_hours
from cluster.simulation.scenario import Arrival, Outcome, Trouble, Truth
from cluster.simulation.simulator import Simulation

AIMS = Aims(drain_s=120, give_back_after_s=600)
HOUR_MS = 3_600_000
# Time after a burst by which its work is done and the policy's window has passed.
GONE_MS = HOUR_MS * 3 / 4


def played(
    gpus: str,
    arrivals: list[Arrival],
    *,
    trouble: Trouble | None = None,
) -> tuple[Outcome, list[Truth]]:
    pools = from_nothing(fleet(gpus, random.Random(1), prior_error=0.3))
    simulation = Simulation(
        pools,
        arrivals,
        trouble=trouble or Trouble(noise=0.1),
        policy=Autoscaler(AIMS),
        policy_every_ms=POLICY_EVERY_MS,
    )
    return simulation.run(), pools


def bursts(n_hours: int, *, audio_hours: float) -> list[Arrival]:
    """One large recording at the beginning of every hour."""
    rng = random.Random(0)
    return [
        Arrival(hour * HOUR_MS, f"long-{hour}", segments_ms(audio_hours * 3600, rng))
        for hour in range(n_hours)
    ]


def test_the_first_request_waits_for_a_cold_start_and_the_next_does_not() -> None:
    second = Arrival(2 * START_MS, "short-1", (5_000,))

    outcome, _ = played("T4:2,A100:1", [Arrival(0.0, "short-0", (5_000,)), second])

    soon_ms, late_ms = latencies_ms(outcome, "short")
    assert soon_ms < 1_000
    assert START_MS <= late_ms < START_MS + POLICY_EVERY_MS + 1_000


@pytest.mark.slow
def test_the_cheap_pool_grows_first_and_dearer_pools_only_if_it_is_too_small() -> None:
    small, _ = played("T4:8,A100:2", bursts(1, audio_hours=5))
    large, _ = played("T4:1,A100:1", bursts(1, audio_hours=80))

    assert small.busy_ms.keys() == {"T4"}
    assert large.busy_ms.keys() == {"T4", "A100"}


@pytest.mark.slow
@pytest.mark.parametrize(("n_hours", "audio_hours"), [(3, 40.0), (24, 10.0)], ids=["3 h", "a day"])
def test_the_fleet_grows_once_and_shrinks_once_for_each_burst(
    n_hours: int, audio_hours: float
) -> None:
    outcome, _ = played("T4:8,L4:4,A100:2", bursts(n_hours, audio_hours=audio_hours))

    counts = [(s.at_ms, sum(s.replicas.values())) for s in outcome.samples]
    steps = [later - sooner for (_, sooner), (_, later) in pairwise(counts) if later != sooner]
    turns = sum(a * b < 0 for a, b in pairwise(steps))
    between = [n for at_ms, n in counts if at_ms % HOUR_MS > GONE_MS]
    assert {done.given_up for done in outcome.done} == {0}
    assert len(outcome.done) == n_hours
    assert turns == 2 * (n_hours - 1)
    assert set(between) == {0}


def test_replicas_that_die_are_replaced_and_nothing_is_lost() -> None:
    arrivals = bursts(1, audio_hours=40)

    outcome, _ = played("T4:8", arrivals, trouble=Trouble(noise=0.1, deaths_per_hour=60.0))

    assert outcome.n_deaths > 0
    assert sorted(outcome.answers["long-0"]) == list(range(len(arrivals[0].lengths_ms)))


def test_running_replicas_are_counted_in_hours() -> None:
    outcome, pools = played("T4:1", bursts(2, audio_hours=10))

    [(name, hours)] = running_hours(outcome).items()
    busy_hours = outcome.busy_ms[name] / HOUR_MS
    assert busy_hours < hours < 1.1  # both bursts, and at most the window after the first
    assert (pools[0].n_replicas, pools[0].max_replicas) == (0, 1)


@pytest.mark.parametrize(("options", "status"), [([], 0), (["--give-back-after-s", "60"], 2)])
def test_the_command_shows_how_far_each_pool_grew(options: list[str], status: int) -> None:
    app = typer.Typer()
    app.command()(simulate)

    result = CliRunner().invoke(app, ["--autoscale", "--minutes", "0.2", *options])

    assert result.exit_code == status
    assert bool(re.search(r"T4\s+[12]\s+0\.\d\d\s+0\.\d\d", result.stdout)) == (status == 0)
