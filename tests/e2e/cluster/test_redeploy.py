"""Replicas of every stage are replaced, or an application leaves a cluster, while requests run."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import ray

from benchmarks.machine import free_port
from deployments.config import AppConfig
from deployments.deploy import deploy
from deployments.loopback import LOOPBACK, on_loopback
from deployments.replicas import running_replicas
from deployments.serve import FOR_RAY, load_config, running
from tests.e2e.test_drain import GENEROUS_S, LONG, SHORT, SLOW, post
from tests.e2e.test_failures import wait_until
from tests.e2e.test_serve_command import wait_for_line

pytestmark = [pytest.mark.ray, pytest.mark.slow]

STAGES = {
    "vad": "Vad",
    "only": "Asr-only",
    "punctuation": "Punctuation",
    "dispatcher": "Dispatcher",
    "router": "Router",
    "ingress": "Ingress",
}
CLIENTS = 4


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    file = tmp_path / "slow.yaml"
    file.write_text(SLOW, encoding="utf-8")
    return file


@pytest.fixture
def config(config_file: Path) -> AppConfig:
    return load_config(config_file)


def changed(config: AppConfig) -> AppConfig:
    """Another argument for every deployment, so that Serve replaces all replicas."""
    values = config.model_dump(mode="json")
    values["limits"]["request_timeout_s"] += 1
    values["dispatcher"]["poll_s"] += 0.1
    for replicas in (values["pools"]["only"], values["vad"], values["punctuation"]):
        replicas["num_threads"] = 2
    return AppConfig.model_validate(values)


def all_replaced(before: dict[str, tuple[str, ...]]) -> bool:
    """Whether every stage runs, and with none of the replicas that it had."""
    now = running_replicas("default", STAGES)
    return all(now.get(stage) and not set(before[stage]) & set(now[stage]) for stage in STAGES)


def test_a_redeployment_fails_no_request(config: AppConfig) -> None:
    over = threading.Event()

    def short_ones(url: str) -> list[int]:
        statuses = []
        while not over.is_set():
            statuses.append(post(url, SHORT).status_code)
        return statuses

    with (
        running(config, port=free_port(), num_cpus=4) as url,
        ThreadPoolExecutor(CLIENTS + 3) as pool,
    ):
        post(url, SHORT)
        before = running_replicas("default", STAGES)
        long: list[Future[httpx.Response]] = [
            pool.submit(post, url, LONG, stream) for stream in (False, True)
        ]
        short = [pool.submit(short_ones, url) for _ in range(CLIENTS)]
        time.sleep(1.0)
        deploying = pool.submit(deploy, changed(config), app_name="default")
        try:
            wait_until(lambda: all_replaced(before))
            left = [future.done() for future in long]
            time.sleep(2.0)  # with the new replicas, while the old ones finish the long requests
        finally:
            over.set()
        answers = [future.result().status_code for future in long]
        statuses = [status for future in short for status in future.result()]
        deploying.result(timeout=GENEROUS_S)

    print(f"{len(statuses)} short requests during the redeployment")
    assert left == [False, False]
    assert answers == [200, 200]
    assert set(statuses) == {200}


def test_sigterm_to_a_service_that_joined_a_cluster_fails_no_request(
    config_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in FOR_RAY.items():  # as for `ray start`
        monkeypatch.setenv(name, value)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with on_a_cluster() as address, ThreadPoolExecutor(4) as pool:
        command = [sys.executable, "-m", "deployments.serve", str(config_file)]
        command += ["--port", str(port), "--address", address]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            wait_for_line(process, "Ready")
            post(url, SHORT)
            under_way = [pool.submit(post, url, LONG, stream) for stream in (False, True)]
            time.sleep(1.0)
            process.send_signal(signal.SIGTERM)
            time.sleep(1.0)
            new = post(url, SHORT)
            status = process.wait(timeout=GENEROUS_S)

    assert [future.result().status_code for future in under_way] == [200, 200]
    assert new.status_code == 503
    assert new.json()["error"]["code"] == "overloaded"
    assert status == 0


@contextmanager
def on_a_cluster() -> Iterator[str]:
    """The address of a Ray that another program has started."""
    with on_loopback():
        ray.init(
            address="local",
            num_cpus=4,
            include_dashboard=False,
            log_to_driver=False,
            _node_ip_address=LOOPBACK,
        )
    try:
        yield str(ray.get_runtime_context().gcs_address)
    finally:
        ray.shutdown()
