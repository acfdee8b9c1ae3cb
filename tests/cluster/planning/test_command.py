"""The whole plan: from the text of a fleet to a file that the service accepts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from hypothesis import given
from hypothesis import strategies as st
from ray.serve.schema import ServeDeploySchema
from typer.testing import CliRunner

from cluster.planning.command import plan
from cluster.planning.cpus import OTHERS_CPUS
from cluster.planning.fleet import parse_fleet
from cluster.planning.placement import Node
from cluster.planning.serve_file import render
from cluster.planning.sizing import make_plan
from cluster.planning.traffic import MOST_BUSY, Traffic, busy, p95_s
from deployments.config import AppConfig
from deployments.serve import load_config
from tests.cluster.planning.fleets import FLEETS

TRAFFIC = st.builds(
    Traffic,
    hours_per_day=st.floats(0, 1e5),
    concurrent=st.integers(1, 20),
    recording_min=st.floats(0.1, 60),
    p95_s=st.none() | st.floats(30, 1000),
)
app = typer.Typer()
app.command()(plan)


def run(*arguments: str, status: int = 0) -> str:
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == status, done.output
    return done.output


@given(FLEETS, TRAFFIC, st.booleans())
def test_the_file_for_any_fleet_and_traffic_holds_the_plan(
    nodes: list[Node], traffic: Traffic, explain: bool
) -> None:
    made = make_plan(nodes, traffic)
    text = render(made.args, title=["a\nfleet"], reasons=made.reasons if explain else None)

    [application] = ServeDeploySchema.model_validate(yaml.safe_load(text)).applications
    assert application.autoscaling_policy is not None
    config = AppConfig.model_validate(application.args)
    assert config.pools == made.placement.pools
    assert config.dtype == made.placement.dtype
    assert (config.vad.num_gpus, config.punctuation.num_gpus) == (
        made.placement.reserve.vad,
        made.placement.reserve.punctuation,
    )


@given(FLEETS, TRAFFIC)
def test_an_aim_is_met_or_the_plan_says_that_it_is_not(nodes: list[Node], traffic: Traffic) -> None:
    made = make_plan(nodes, traffic)

    capacity = made.capacity
    too_slow = traffic.p95_s is not None and p95_s(traffic, capacity) > traffic.p95_s + 1e-6
    too_busy = busy(traffic, capacity) > MOST_BUSY + 1e-6
    assert bool(made.problems) or not (too_slow or too_busy)


@given(FLEETS, TRAFFIC)
def test_the_fleet_has_the_cpus_that_all_deployments_reserve(
    nodes: list[Node], traffic: Traffic
) -> None:
    made = make_plan(nodes, traffic)
    config = AppConfig.model_validate(made.args)
    stages = (config.vad, config.punctuation, config.router)

    once = [stage.num_cpus for stage in stages]
    once += [config.ingress.num_cpus, config.dispatcher.num_cpus]
    assert sum(once) <= OTHERS_CPUS + 1e-9
    extra = sum((stage.max_replicas - 1) * stage.num_cpus for stage in stages)
    assert extra <= made.placement.spare_cpus


@given(FLEETS)
def test_every_number_of_a_pool_or_stage_has_a_reason(nodes: list[Node]) -> None:
    made = make_plan(nodes)

    numbers = {
        ("pools", name, key)
        for name, pool in made.args["pools"].items()
        for key, value in pool.items()
        if isinstance(value, int | float)
    } | {(stage, key) for stage in ("vad", "punctuation", "router") for key in made.args[stage]}
    assert numbers <= set(made.reasons)


@given(FLEETS, TRAFFIC)
def test_only_settings_in_the_file_are_explained(nodes: list[Node], traffic: Traffic) -> None:
    made = make_plan(nodes, traffic)

    assert [path for path in made.reasons if not is_written(made.args, path)] == []


def is_written(args: Any, path: tuple[str, ...]) -> bool:
    return not path or (path[0] in args and is_written(args[path[0]], path[1:]))


def test_the_fleet_of_the_readme() -> None:
    document = yaml.safe_load(run("--gpus", "T4:4,L4:2,H200:1"))
    args = document["applications"][0]["args"]

    assert args["dtype"] == "fp16"
    assert {n: (p["num_gpus"], p["max_replicas"]) for n, p in args["pools"].items()} == {
        "T4": (0.36, 8),
        "L4": (0.36, 4),
        "H200": (0.18, 4),
    }
    assert args["punctuation"]["num_gpus"] == 0.14
    assert args["vad"]["max_replicas"] > 1


def test_explain_puts_a_reason_above_each_number() -> None:
    text = run("--gpus", "T4:4", "--explain")

    above = text.splitlines()[text.splitlines().index("          num_gpus: 0.43") - 1]
    assert above.strip().startswith("#")
    assert yaml.safe_load(text) == yaml.safe_load(run("--gpus", "T4:4"))


def test_the_file_names_cards_that_are_left_out_and_why() -> None:
    text = run("--gpus", "T4:1,GTX 1650:2")

    assert "2 x GeForce-GTX-1650 left out: 4096 MiB" in " ".join(text.split())


def test_traffic_keeps_replicas_ready_and_bounds_the_queue() -> None:
    quiet = make_plan(parse_fleet("(T4:4,cpu:64)"), Traffic(hours_per_day=10))
    busy_day = make_plan(parse_fleet("(T4:4,cpu:64)"), Traffic(hours_per_day=15_000, p95_s=60))

    assert quiet.placement.pools["T4"].min_replicas == 1
    assert busy_day.placement.pools["T4"].min_replicas > 4
    assert busy_day.args["dispatcher"]["max_queue_s"] == 60
    assert not busy_day.problems


def test_the_plan_says_if_an_aim_needs_cards_that_may_be_absent() -> None:
    traffic = Traffic(hours_per_day=15_000)
    without = make_plan(parse_fleet("(T4:1,cpu:64),L4:0-4"), traffic)
    with_them = make_plan(parse_fleet("(T4:1,cpu:64),L4:4"), traffic)

    assert any("may be absent" in problem for problem in without.problems)
    assert not with_them.problems


def test_an_existing_file_is_overwritten_only_with_force(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    run("--gpus", "T4:1", "--output", str(path))
    first = path.read_text()

    refused = run("--gpus", "L4:1", "--output", str(path), status=1)

    assert "--force" in refused
    assert path.read_text() == first
    run("--gpus", "L4:1", "--output", str(path), "--force")
    assert set(load_config(path).pools) == {"L4"}


def test_the_cheapest_fleet_is_planned_and_priced() -> None:
    text = run(
        *("--cheapest", "--prices", "T4=0.53,L4=0.80,H100=4.0"),
        *("--hours-per-day", "20000", "--p95-s", "60", "--recording-min", "30"),
    )

    args = yaml.safe_load(text)["applications"][0]["args"]
    assert "The cheapest cards that keep the aims: 3 x T4 in fp16, 1.59 an hour" in text
    assert args["pools"]["T4"]["max_replicas"] == 6
    assert "Note:" not in text


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "--gpus"),
        (["--gpus", "T4:1", "--cheapest"], "exactly one of"),
        (["--address", "127.0.0.1:1"], "No Ray cluster answers at 127.0.0.1:1"),
        (["--gpus", "T4:nine"], "T4:nine"),
        (["--cheapest", "--prices", "T4=0.5"], "--hours-per-day"),
        (["--cheapest", "--prices", "T4", "--hours-per-day", "1"], "not a price"),
        (["--gpus", "T4:1", "--p95-s", "1", "--recording-min", "60"], "any fleet"),
    ],
)
def test_a_wrong_command_fails_with_a_sentence_and_status_1(
    arguments: list[str], says: str
) -> None:
    assert says in " ".join(run(*arguments, status=1).split())
