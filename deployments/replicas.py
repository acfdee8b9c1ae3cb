"""The running replicas of every stage and pool, by the names that Serve gives them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ray
from ray.serve.context import _get_global_client
from ray.serve.schema import ReplicaDetails

RUNNING = "RUNNING"  # a state of a replica, as Serve names it


def check_names() -> None:
    """Raises RuntimeError where Serve does not tell the names of replicas, as another Ray may."""
    if "actor_id" not in ReplicaDetails.model_fields:
        raise RuntimeError(
            f"Ray {ray.__version__} does not tell the names of Serve's replicas, to which the"
            " dispatcher sends chunks. Install the Ray that requirements/cpu.txt pins."
        )


def running_replicas(app_name: str, deployments: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """The running replicas of each deployment, by the ids of their actors (`asr.own_name`).

    Asks Serve's controller; the call is the one that `serve.status` makes.
    """
    client: Any = _get_global_client()
    applications = client.get_serve_details()["applications"]
    found = applications[app_name]["deployments"] if app_name in applications else {}
    return {
        name: tuple(
            replica["actor_id"]
            for replica in found[deployment]["replicas"]
            if replica["state"] == RUNNING and replica["actor_id"]
        )
        for name, deployment in deployments.items()
        if deployment in found
    }
