"""Deploys a configuration as `serve deploy` does, with the autoscaling policy of the application.

`serve.run` takes no policy for a whole application (Ray 2.60). A configuration can name one, and
Serve's client accepts a configuration without a dashboard. The client is not public in Ray, and no
other file uses it.
"""

from __future__ import annotations

from typing import Any

from ray.serve.context import _get_global_client
from ray.serve.schema import ServeApplicationSchema, ServeDeploySchema

from deployments.app import build
from deployments.config import AppConfig
from deployments.keys.required import as_required
from deployments.resolve import cluster_nodes, resolve

IMPORT_PATH = "deployments.app:build"
POLICY = {"policy_function": "cluster.autoscaling:serve_policy"}


def deploy(config: AppConfig, *, app_name: str, route_prefix: str = "/") -> None:
    """Returns once the application runs. Other applications of this Serve instance stay.

    Raises ModelUnavailable and ValueError as `build` does, and RuntimeError with Serve's message
    if the application cannot be started.
    """
    resolved, notes = resolve(config, cluster_nodes())
    keys = as_required(resolved.keys)  # the controller may run where no such variable is set
    resolved = resolved.model_copy(update={"notes": notes, "keys": keys})
    build(resolved)  # raises its errors here rather than in a task of the controller
    client: Any = _get_global_client()
    application = ServeApplicationSchema(
        name=app_name,
        route_prefix=route_prefix,
        import_path=IMPORT_PATH,
        args=resolved.model_dump(mode="json"),
        autoscaling_policy=POLICY,
    )
    client.deploy_apps(ServeDeploySchema(applications=[*_others(client, app_name), application]))
    client._wait_for_application_running(app_name)


def _others(client: Any, app_name: str) -> list[ServeApplicationSchema]:
    """The applications deployed before. Serve deletes those that a new configuration omits."""
    applications = client.get_serve_details()["applications"]
    return [
        ServeApplicationSchema(**details["deployed_app_config"])
        for name, details in applications.items()
        if name != app_name and details["deployed_app_config"]
    ]
