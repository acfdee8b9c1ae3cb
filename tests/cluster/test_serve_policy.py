"""The policy as Serve's controller calls it: it takes contexts and returns replicas and state."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ray import cloudpickle
from ray.serve._private.common import DeploymentID, ReplicaID, TimeStampedValue
from ray.serve.config import AutoscalingConfig, AutoscalingContext
from ray.serve.schema import ServeDeploySchema

import cluster.autoscaling
from cluster.autoscaling import STALE_S, serve_policy
from deployments.deploy import POLICY

ROOT = Path(__file__).resolve().parent.parent.parent
NOW_S = 1000.0
REPORT = {
    "backlog_audio_s": 100.0 * 25,
    "accepted_audio_s": 100.0 * 25,
    "drain_s": 100.0,
    "give_back_after_s": 300.0,
    "speed:Asr-a": 10.0,
    "price_per_hour:Asr-a": 1.0,
    "start_s:Asr-a": 30.0,
}


def context(
    name: str,
    *,
    report: dict[str, float] | None = None,
    reported_s: float = NOW_S,
    state: dict[str, Any] | None = None,
    n_requests: float = 0.0,
    n_replicas: int = 0,
) -> AutoscalingContext:
    deployment = DeploymentID(name, "default")
    replica = ReplicaID("one", deployment)
    return AutoscalingContext(
        deployment_id=deployment,
        deployment_name=name,
        app_name="default",
        current_num_replicas=n_replicas,
        target_num_replicas=n_replicas,
        running_replicas=[],
        total_num_requests=n_requests,
        total_queued_requests=0.0,
        aggregated_metrics={},
        raw_metrics={
            key: {replica: [TimeStampedValue(reported_s - 5, -1), TimeStampedValue(reported_s, v)]}
            for key, v in (report or {}).items()
        },
        capacity_adjusted_min_replicas=0,
        capacity_adjusted_max_replicas=8,
        policy_state=state or {},
        last_scale_up_time=None,
        last_scale_down_time=None,
        current_time=NOW_S,
        config=AutoscalingConfig(max_replicas=8, target_ongoing_requests=2),
    )


def by_id(*contexts: AutoscalingContext) -> dict[DeploymentID, AutoscalingContext]:
    return {c.deployment_id: c for c in contexts}


def named(answer: dict[Any, float]) -> dict[str, float]:
    return {deployment.name: n for deployment, n in answer.items()}


def test_pools_follow_the_backlog_and_other_deployments_serves_default_policy() -> None:
    answer, state = serve_policy(
        by_id(
            context("Dispatcher", report=REPORT, n_replicas=1),
            context("Asr-a"),
            context("Vad", n_requests=6, n_replicas=1),
        )
    )

    assert named(answer) == {"Dispatcher": 0.0, "Asr-a": 3, "Vad": 3.0}
    assert [deployment.name for deployment in state] == ["Dispatcher"]


@pytest.mark.parametrize("late_s", [None, STALE_S + 1])
def test_without_a_fresh_report_nothing_is_decided_and_the_state_is_kept(
    late_s: float | None,
) -> None:
    remembered = {"pools": cluster.autoscaling.State()}
    report = REPORT if late_s else None

    answer, state = serve_policy(
        by_id(
            context(
                "Dispatcher", report=report, reported_s=NOW_S - (late_s or 0), state=remembered
            ),
            context("Asr-a", n_replicas=2),
        )
    )

    assert answer == {}
    assert named(state) == {"Dispatcher": remembered}  # type: ignore[arg-type]


def test_the_policy_works_when_pickled_by_value_as_serve_does() -> None:
    cloudpickle.register_pickle_by_value(cluster.autoscaling)
    try:
        policy = cloudpickle.loads(cloudpickle.dumps(serve_policy))
    finally:
        cloudpickle.unregister_pickle_by_value(cluster.autoscaling)
    contexts = by_id(context("Dispatcher", report=REPORT, n_replicas=1), context("Asr-a"))

    answer, _ = policy(contexts)

    assert policy is not serve_policy
    assert named(answer)["Asr-a"] == 3


@pytest.mark.parametrize("name", ["serve_config.yaml", "demo.yaml"])
def test_every_shipped_configuration_names_the_policy(name: str) -> None:
    document = yaml.safe_load((ROOT / name).read_text("utf-8"))

    (application,) = ServeDeploySchema.model_validate(document).applications

    assert application.autoscaling_policy == POLICY
    module, function = POLICY["policy_function"].split(":")
    assert module == serve_policy.__module__
    assert function == serve_policy.__name__
