"""Two nodes with a Serve proxy each, behind Debian's nginx, of which one is killed."""

from __future__ import annotations

import os
import random
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import ray
from ray import serve
from ray.cluster_utils import Cluster

from benchmarks.material.recordings import wav_bytes
from benchmarks.material.synthetic_audio import voice
from deployments.config import AppConfig
from deployments.deploy import deploy
from tests.e2e.test_bad_input import PATH

NGINX = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
CONF = Path(__file__).parents[3] / "cluster" / "nginx" / "nginx.conf"
NOTICED_S = 15.0  # until then a request may still go to the dead node's replicas, and fail
WATCHED_S = 40.0  # nginx tries the dead node again every 10 s, which must cost no request
PAUSE = np.zeros(16_000, np.int16)

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.skipif(NGINX is None, reason="nginx is not installed (apt-get install nginx)"),
]


@dataclass(frozen=True)
class TwoNodes:
    url: str  # nginx's
    proxies: tuple[str, str]  # of the head and of the other node
    cluster: Any
    other: Any  # the node that is not the head

    def post(self, *, n_segments: int) -> httpx.Response:
        """Sends a recording with five seconds of speech in each segment through nginx."""
        parts = [part for i in range(n_segments) for part in (voice(5000, seed=i), PAUSE)]
        files = {"file": ("recording.wav", wav_bytes(np.concatenate(parts)))}
        form = {"response_format": "detailed_json"}
        return httpx.post(self.url + PATH, files=files, data=form, timeout=300)

    def post_for(self, time_s: float) -> list[tuple[float, int]]:
        """Sends one short recording after another. Returns when each was sent, and its status."""
        began_s = time.monotonic()
        found: list[tuple[float, int]] = []
        while (at_s := time.monotonic() - began_s) < time_s:
            found.append((at_s, self.post(n_segments=1).status_code))
            print(f"{at_s:5.1f} s after the kill: {found[-1][1]}")
        return found


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoNodes]:
    ports = lasting_port(), lasting_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_SERVE_WORKER_PROXY_HTTP_PORT", str(ports[1]))
        patch.setenv("RAY_SERVE_CONTROL_LOOP_INTERVAL_S", "0.5")
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        soon = {
            "health_check_initial_delay_ms": 0,
            "health_check_period_ms": 500,
            "health_check_failure_threshold": 4,
        }
        cluster = Cluster(
            initialize_head=True,
            head_node_args={
                "num_cpus": 4,
                "include_dashboard": False,
                "labels": {"room": "first"},
                "_system_config": soon,
            },
        )
        other = cluster.add_node(num_cpus=1, labels={"room": "second"})
        ray.init(address=cluster.address, log_to_driver=False)
        try:
            http = {"host": "127.0.0.1", "port": ports[0]}
            serve.start(proxy_location="EveryNode", http_options=http)
            deploy(config(), app_name="default")
            with nginx_before(ports, tmp_path_factory.mktemp("nginx")) as url:
                proxies = tuple(f"http://127.0.0.1:{port}" for port in ports)
                wait_until_ready((*proxies, url))
                yield TwoNodes(url, proxies, cluster, other)
        finally:
            serve.shutdown()
            ray.shutdown()
            cluster.shutdown()


def config() -> AppConfig:
    half = {"num_cpus": 0.5, "batch_audio_s": 10, "speed": 5}
    pools = {room: half | {"node_labels": {"room": room}} for room in ("first", "second")}
    models = {"vad": "fake:vad", "asr": "fake:slow", "punctuation": "fake:punctuation"}
    dispatcher = {"poll_s": 0.5}
    return AppConfig.model_validate({"models": models, "pools": pools, "dispatcher": dispatcher})


class nginx_before:
    """Runs nginx with the repository's nginx.conf on loopback, and gives its address."""

    def __init__(self, ports: tuple[int, int], prefix: Path) -> None:
        port = lasting_port()
        self._url = f"http://127.0.0.1:{port}"
        text = CONF.read_text("utf-8")
        for old, new in {
            "10.0.0.11:8000": f"127.0.0.1:{ports[0]}",
            "10.0.0.12:8000": f"127.0.0.1:{ports[1]}",
            "listen 80;": f"listen 127.0.0.1:{port};",
            "http {": "http { access_log off; "
            + "".join(
                f"{kind}_temp_path {prefix}/{kind}; "
                for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
            ),
        }.items():
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        (prefix / "nginx.conf").write_text(text, "utf-8")
        assert NGINX is not None
        self._command = [NGINX, "-p", str(prefix), "-c", str(prefix / "nginx.conf")]
        self._command += ["-e", "stderr", "-g", f"daemon off; pid {prefix}/nginx.pid;"]

    def __enter__(self) -> str:
        self._process = subprocess.Popen(self._command)
        return self._url

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(timeout=60)


def lasting_port() -> int:
    """A port below those of outgoing connections, so that it is still free a minute later."""
    while True:
        port = random.randrange(20_000, 30_000)
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        return port


def wait_until_ready(urls: tuple[str, ...], limit_s: float = 300) -> None:
    deadline_s = time.monotonic() + limit_s
    for url in urls:
        while not is_ready(url):
            assert time.monotonic() < deadline_s, url
            time.sleep(0.3)


def is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=10).status_code == 200
    except httpx.TransportError:
        return False


def test_a_recording_is_split_over_two_nodes_of_which_one_may_die(nodes: TwoNodes) -> None:
    before = nodes.post(n_segments=10)
    nodes.cluster.remove_node(nodes.other, allow_graceful=False)
    late = [status for at_s, status in nodes.post_for(WATCHED_S) if at_s > NOTICED_S]
    after = nodes.post(n_segments=10)

    assert before.status_code == 200
    assert {s["pool"] for s in before.json()["segments"]} == {"first", "second"}
    assert not is_ready(nodes.proxies[1])
    assert len(late) >= 5
    assert late == [200] * len(late)
    assert {s["pool"] for s in after.json()["segments"]} == {"first"}
    assert after.json()["text"] == before.json()["text"]
