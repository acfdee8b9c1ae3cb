"""Handles for programs outside the cluster, which wait for an answer without an event loop."""

from __future__ import annotations

from typing import Any

from ray import serve
from ray.serve.handle import DeploymentHandle


def waiting_handle(deployment: str, app_name: str) -> DeploymentHandle[Any]:
    """The handle of a running deployment, for calls with `.result()`.

    Serve sends these calls from an event loop of its own, also where the environment asks for one
    loop in each process, as that of a node may (`serve.FOR_RAY`). There is no public name for this
    (Ray 2.60).
    """
    handle = serve.get_deployment_handle(deployment, app_name)
    handle._init(_run_router_in_separate_loop=True)  # type: ignore[no-untyped-call]
    return handle
