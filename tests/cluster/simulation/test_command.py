"""The simulation answers every segment, learns speeds, repeats itself, and draws its plot."""

from __future__ import annotations

import random
import re
import time
from dataclasses import replace
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from cluster.simulation.command import fleet, latencies_ms, segments_ms, simulate, traffic
from cluster.simulation.scenario import Arrival, Trouble, Truth
from cluster.simulation.simulator import Simulation


def _hour(seed: int = 0) -> list[Arrival]:
    return [Arrival(0.0, "long", segments_ms(3600, random.Random(seed)))]


def _fleet(gpus: str = "T4:2,L4:1,A100:1", prior_error: float = 0.3) -> list[Truth]:
    return fleet(gpus, random.Random(1), prior_error=prior_error)


def test_every_segment_is_answered_once_while_replicas_die_and_stall() -> None:
    arrivals = _hour()
    trouble = Trouble(noise=0.3, stragglers=0.3, deaths_per_hour=3_000.0, replace_ms=500.0)

    outcome = Simulation(_fleet(), arrivals, seed=2, trouble=trouble).run()

    answered = outcome.answers["long"]
    given_up = sum(done.given_up for done in outcome.done)
    assert outcome.n_deaths > 0
    assert len(answered) == len(set(answered)) == len(arrivals[0].lengths_ms) - given_up


def test_a_poisoned_segment_alone_is_given_up() -> None:
    trouble = Trouble(poison=(("long", 40),), replace_ms=100.0)

    outcome = Simulation(_fleet(), _hour(), trouble=trouble).run()

    assert [done.given_up for done in outcome.done] == [1]
    assert 40 not in outcome.answers["long"]


def test_the_same_seed_gives_the_same_run() -> None:
    runs = [
        Simulation(_fleet(), _hour(), seed=3, trouble=Trouble(noise=0.1)).run().done
        for _ in range(2)
    ]

    assert runs[0] == runs[1]


def test_speeds_are_learned_from_results() -> None:
    pools = _fleet()
    simulation = Simulation(pools, _hour(), trouble=Trouble(noise=0.05))

    simulation.run()

    learned = simulation.scheduler.snapshot()
    assert {name: pool["full_speed"] for name, pool in learned.items()} == pytest.approx(
        {p.prior.name: _full_speed(p) for p in pools}, rel=0.1
    )


def _at_zero(pool: Truth, *, price_per_hour: float) -> Truth:
    """The pool with no replica, which the scheduler may start."""
    prior = replace(pool.prior, can_start=True, start_ms=500.0, price_per_hour=price_per_hour)
    return replace(pool, n_replicas=0, prior=prior)


def test_when_no_replica_runs_the_cheapest_pool_is_started() -> None:
    t4, a100 = _fleet("T4:1,A100:1")
    pools = [_at_zero(t4, price_per_hour=0.5), _at_zero(a100, price_per_hour=3.0)]

    outcome = Simulation(pools, _hour()).run()

    assert outcome.busy_ms["T4"] > 0
    assert not outcome.busy_ms.get("A100")


def _full_speed(truth: Truth) -> float:
    batch_ms = truth.prior.batch_audio_ms
    return batch_ms / (truth.overhead_ms + batch_ms / truth.speed)


def test_short_requests_are_not_stuck_behind_a_long_one() -> None:
    rng = random.Random(5)
    short = traffic(rng, minutes=1, short_per_minute=60, long_hours=())
    long = traffic(rng, minutes=0, short_per_minute=60, long_hours=(10.0,))

    outcome = Simulation(_fleet(), [*long, *short]).run()

    assert latencies_ms(outcome, "short")[-1] < 1_500 < latencies_ms(outcome, "long")[0]


@pytest.mark.slow
def test_the_command_prints_a_table_and_draws_a_plot(tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(simulate)
    figure = tmp_path / "run.png"

    result = CliRunner().invoke(app, ["--minutes", "0.2", "--plot", str(figure)])

    assert result.exit_code == 0
    assert re.search(r"simulated in\s+[\d.]+ s", result.stdout)
    assert re.search(r"requests done\s+\d+", result.stdout)
    assert figure.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("gpus", [":4", "T4:x", ""])
def test_text_that_is_not_a_fleet_is_refused(gpus: str) -> None:
    app = typer.Typer()
    app.command()(simulate)

    result = CliRunner().invoke(app, ["--gpus", gpus or ","])

    assert result.exit_code == 2


@pytest.mark.slow
def test_two_hundred_thousand_chunks_on_a_thousand_gpus_take_minutes_at_most() -> None:
    rng = random.Random(0)
    pools = _fleet("T4:400,L4:300,A100:300")
    arrivals = [
        Arrival(i * 10.0, f"r{i}", segments_ms(rng.choice((20, 300, 3600)), rng))
        for i in range(2_500)
    ]

    began_s = time.process_time()
    outcome = Simulation(pools, arrivals, trouble=Trouble(noise=0.1)).run()
    took_s = time.process_time() - began_s

    us = outcome.scheduling_us_per_chunk
    print(f"{outcome.n_chunks} chunks, {took_s:.1f} s, {us:.0f} us of scheduling a chunk")
    assert outcome.n_chunks >= 200_000
    assert took_s < 180  # the aim is 60 s; the printed line says how close this run came
