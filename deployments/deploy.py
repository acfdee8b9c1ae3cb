"""Deploys a configuration as `serve deploy` does, with the autoscaling policy of the application.

`serve.run` takes no policy for a whole application (Ray 2.60); a configuration does, and Serve's
client takes one without a dashboard. Names that Ray does not make public are used here alone.
"""

from __future__ import annotations

from typing import Any

from ray.serve.context import _get_global_client
from ray.serve.schema import ServeApplicationSchema, ServeDeploySchema

from deployments.app import build
from deployments.config import AppConfig
from deployments.resolve import cluster_nodes, resolve

IMPORT_PATH = "deployments.app:build"
POLICY = {"policy_function": "cluster.autoscaling:serve_policy"}


def deploy(config: AppConfig, *, app_name: str, route_prefix: str = "/") -> None:
    """Returns once the application runs beside what else is deployed on this Serve instance.

    Raises ModelUnavailable as `build` does, and RuntimeError with Serve's message where the
    application cannot be started.
    """
    resolved, notes = resolve(config, cluster_nodes())
    resolved = resolved.model_copy(update={"notes": notes})
    build(resolved)  # what is wrong with it is raised here, not in a task of the controller
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
    """What was deployed by configuration before: Serve deletes what a new one does not name."""
    applications = client.get_serve_details()["applications"]
    return [
        ServeApplicationSchema(**details["deployed_app_config"])
        for name, details in applications.items()
        if name != app_name and details["deployed_app_config"]
    ]
