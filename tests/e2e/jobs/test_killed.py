"""A three-hour job goes on from its last segments, whatever is killed under it.

The engines sleep for as long as a GPU of 400 times real time would need. The service runs in a
process of its own, so that all of Ray can be killed and started again.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
import yaml

from benchmarks.machine import free_port
from benchmarks.material.postgres import postgres, programs
from benchmarks.material.recordings import wav_bytes
from benchmarks.material.synthetic_audio import voice

pytestmark = [pytest.mark.ray, pytest.mark.slow]

PATH = "/v1/transcription-jobs"
PATIENCE_S = 240.0
LEASE_S = 3.0
SPEED = 400.0  # of all threads of the pool together
N_THREADS = round(SPEED / 5)  # `fake:slow` does 5 audio seconds per second and thread
MINUTES = 180


@pytest.fixture(scope="module")
def recording() -> bytes:
    """Three hours of audio: ten minutes, eighteen times."""
    pause = np.zeros(16_000, np.int16)
    parts = [part for i in range(100) for part in (voice(5000, seed=i), pause)]
    return wav_bytes(np.tile(np.concatenate(parts), MINUTES // 10))


@contextmanager
def database(kind: str) -> Iterator[dict[str, str]]:
    """The environment that names a database."""
    if kind == "sqlite":
        yield {}
        return
    if programs() is None:
        pytest.skip("PostgreSQL is not installed")
    with postgres() as server, server.database() as url:
        yield {"PARAFORMER_DATABASE_URL": url}


class Served:
    """`python -m deployments.serve` as a process that can be killed with all its children."""

    def __init__(self, folder: Path, environ: dict[str, str]) -> None:
        self._folder, self._environ = folder, environ
        self.url = f"http://127.0.0.1:{free_port()}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        config = self._folder / "config.yaml"
        port = int(self.url.rpartition(":")[2])
        config.write_text(yaml.safe_dump(document(port, self._folder)), encoding="utf-8")
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "deployments.serve", str(config)],
                stdout=log,
                stderr=log,
                env=os.environ | self._environ,
                start_new_session=True,
            )
        wait_until(self._is_ready)

    def children(self, title: str = "") -> list[psutil.Process]:
        assert self._process is not None
        found = []
        for process in psutil.Process(self._process.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                if title in " ".join(process.cmdline()):
                    found.append(process)
        return found

    def kill(self, deployment: str) -> None:
        """Kills a replica of the deployment."""
        self.children(f"ray::ServeReplica:default:{deployment}")[0].send_signal(signal.SIGKILL)

    def kill_all(self) -> None:
        """Kills the service and every process of its Ray."""
        victims = self.children()
        assert self._process is not None
        self._process.kill()
        for victim in victims:
            with suppress(psutil.NoSuchProcess):
                victim.kill()
        psutil.wait_procs(victims, timeout=30)
        self._process.wait(30)

    def _is_ready(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._folder / "log").read_text("utf-8")
        with suppress(httpx.HTTPError):
            return httpx.get(f"{self.url}/readyz", timeout=5).status_code == 200
        return False


def document(port: int, folder: Path) -> dict[str, Any]:
    """A configuration for one machine, with sleeping engines."""
    arguments = {
        "models": {"vad": "fake:vad", "asr": "fake:slow", "punctuation": "fake:punctuation"},
        "pools": {
            "only": {
                "num_cpus": 0.1,
                "num_threads": N_THREADS,
                "speed": SPEED,
                "batch_audio_s": 120,
                "min_replicas": 1,
            }
        },
        "jobs": {"enabled": True, "lease_s": LEASE_S, "num_cpus": 0.1},
        "storage": {"data_dir": str(folder / "data")},
    }
    application = {"name": "default", "import_path": "deployments.app:build", "args": arguments}
    http = {"host": "127.0.0.1", "port": port}
    return {"http_options": http, "applications": [application]}


def wait_until(condition: Callable[[], bool]) -> None:
    until_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < until_s
        time.sleep(0.2)


def job_of(url: str, name: str) -> dict[str, Any]:
    """The job, asked for until somebody answers."""
    until_s = time.monotonic() + PATIENCE_S
    while True:
        with suppress(httpx.HTTPError):
            answer = httpx.get(f"{url}{PATH}/{name}", timeout=20)
            if answer.status_code == 200:
                job: dict[str, Any] = answer.json()
                return job
        assert time.monotonic() < until_s
        time.sleep(0.2)


def submit(url: str, recording: bytes) -> str:
    files = {"file": ("three-hours.wav", recording)}
    answer = httpx.post(url + PATH, files=files, timeout=300)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def result_of(url: str, name: str) -> list[Any]:
    """All of the result that two runs share: text, times and words."""
    answer = httpx.get(f"{url}{PATH}/{name}/result?format=detailed_json", timeout=120).json()
    keys = ("start_ms", "end_ms", "text", "words", "error")
    segments = [[segment[key] for key in keys] for segment in answer["segments"]]
    return [answer["text"], answer["duration_ms"], *segments]


def done_s(url: str, name: str) -> float:
    return float(job_of(url, name)["progress"]["audio_s_done"])


def under_way_s(url: str) -> float:
    """Audio that replicas have and have not answered, which a death may cost.

    Asked for until the router and the dispatcher are there, one of which may just have been killed.
    """
    pools: dict[str, Any] = {}

    def is_told() -> bool:
        with suppress(httpx.HTTPError):
            pools.update(httpx.get(f"{url}/readyz", timeout=20).json().get("pools", {}))
        return bool(pools)

    wait_until(is_told)
    return sum(float(pool["outstanding_audio_s"]) for pool in pools.values())


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_job_of_three_hours_survives_every_death(
    kind: str, recording: bytes, tmp_path: Path
) -> None:
    with database(kind) as environ:
        served = Served(tmp_path, environ)
        served.start()
        try:
            undisturbed = submit(served.url, recording)
            wait_until(lambda: job_of(served.url, undisturbed)["state"] == "completed")
            disturbed = submit(served.url, recording)
            for step, victim in enumerate(("Jobs", "Router", "Dispatcher", "Ray"), start=1):
                wait_until(
                    lambda step=step: done_s(served.url, disturbed) > MINUTES * 60 * step / 6
                )
                before_s = done_s(served.url, disturbed)
                sent_s = under_way_s(served.url)
                if victim == "Ray":
                    served.kill_all()
                    served.start()
                else:
                    served.kill(victim)
                time.sleep(1.0)
                after_s = done_s(served.url, disturbed)
                print(
                    f"{kind}: {victim} killed at {before_s:.0f} s, goes on from {after_s:.0f} s;"
                    f" at most {sent_s:.0f} s recognised twice"
                )
                assert before_s < MINUTES * 60  # there is work left to lose
                assert after_s >= before_s
            wait_until(lambda: job_of(served.url, disturbed)["state"] == "completed")

            assert result_of(served.url, disturbed) == result_of(served.url, undisturbed)
        finally:
            served.kill_all()
