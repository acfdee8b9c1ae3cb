"""Where the service listens without keys, and the simplest way to have one."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import ray
from ray import serve
from ray.serve.context import _get_global_client
from ray.serve.schema import ServeApplicationSchema, ServeDeploySchema

from benchmarks.machine import free_port
from deployments.deploy import IMPORT_PATH
from deployments.keys.secrets import new_id, new_key
from deployments.loopback import LOOPBACK, on_loopback
from tests.e2e.test_serve_command import FAKES, wait_for_line

pytestmark = pytest.mark.ray


def serving(folder: Path, *options: str, more: str = "", **environ: str) -> Any:
    config = folder / "fakes.yaml"
    config.write_text(FAKES + more, encoding="utf-8")
    return subprocess.Popen(
        [sys.executable, "-m", "deployments.serve", str(config), *options],
        env=os.environ | environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def open_serve() -> Iterator[Any]:
    """Serve with proxies on every interface, as on a cluster, and its client."""
    with on_loopback():
        ray.init(
            address="local",
            num_cpus=4,
            include_dashboard=False,
            log_to_driver=False,
            _node_ip_address=LOOPBACK,
        )
    serve.start(http_options={"host": "0.0.0.0", "port": free_port()})
    yield _get_global_client()
    serve.shutdown()
    ray.shutdown()


def told_of(client: Any, **keys: Any) -> tuple[str, str]:
    """How the application ends that `serve deploy` would start: its status and the message."""
    args = {"models": {"vad": "fake:vad", "asr": "fake:asr", "punctuation": None}, "keys": keys}
    application = ServeApplicationSchema(
        name="default", route_prefix="/", import_path=IMPORT_PATH, args=args
    )
    client.deploy_apps(ServeDeploySchema(applications=[application]))
    deadline_s = time.monotonic() + 120
    while time.monotonic() < deadline_s:
        found = serve.status().applications["default"]
        if found.status in ("RUNNING", "DEPLOY_FAILED"):
            break
        time.sleep(0.2)
    return str(found.status.value), found.message


def test_on_a_cluster_whose_proxies_are_open_the_application_does_not_start_without_keys(
    open_serve: Any,
) -> None:
    refused = told_of(open_serve)
    meant = told_of(open_serve, serve_without_keys_beyond_loopback=True)

    assert refused[0] == "DEPLOY_FAILED"
    assert "whoever reaches 0.0.0.0 could use the service" in refused[1]
    assert meant[0] == "RUNNING"


def test_without_a_key_another_host_is_refused_at_once(tmp_path: Path) -> None:
    with serving(tmp_path, "--host", "0.0.0.0", "--port", str(free_port())) as process:
        _, told = process.communicate(timeout=120)

    assert process.returncode == 1
    assert "keys.serve_without_keys_beyond_loopback: true" in told


def test_a_key_of_the_environment_opens_the_service_to_other_machines(tmp_path: Path) -> None:
    key, port = new_key(new_id()), free_port()
    url = f"http://127.0.0.1:{port}/v1/models"

    with serving(
        tmp_path, "--host", "0.0.0.0", "--port", str(port), PARAFORMER_API_KEYS=key
    ) as process:
        wait_for_line(process, "Ready")
        statuses = [
            httpx.get(url, headers={"Authorization": f"Bearer {one}"}, timeout=60).status_code
            for one in (key, new_key(new_id()))
        ]
        process.terminate()
        process.communicate(timeout=300)

    assert statuses == [200, 401]


def test_on_loopback_the_command_says_that_there_are_no_keys(tmp_path: Path) -> None:
    with serving(tmp_path, "--port", str(free_port())) as process:
        wait_for_line(process, "No API key is configured, so the service listens on loopback")
        process.terminate()
        process.communicate(timeout=300)

    assert process.returncode == 0
