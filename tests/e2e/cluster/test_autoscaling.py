"""Two CPU pools on real Ray start at zero, grow with the backlog, and return to zero."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest
from ray import serve

from benchmarks.machine import free_port
from benchmarks.material.recordings import wav_bytes
from benchmarks.material.synthetic_audio import voice
from deployments.config import AppConfig
from deployments.deploy import deploy
from deployments.replicas import running_replicas
from deployments.serve import running
from tests.e2e.test_bad_input import PATH

pytestmark = [pytest.mark.ray, pytest.mark.slow]

PAUSE = np.zeros(16_000, np.int16)
POOLS = ("cheap", "dear")
DRAIN_S = 10.0


def two_pools() -> AppConfig:
    slow = {"num_cpus": 0.1, "min_replicas": 0, "start_s": 5, "batch_audio_s": 10}
    return AppConfig.model_validate(
        {
            "models": {"vad": "fake:vad", "asr": "fake:slow", "punctuation": "fake:punctuation"},
            "pools": {
                "cheap": slow | {"speed": 5, "max_replicas": 2, "price_per_hour": 1},
                "dear": slow
                | {"speed": 10, "num_threads": 2, "max_replicas": 2, "price_per_hour": 5},
            },
            "dispatcher": {"poll_s": 0.5},
            "autoscaling": {"drain_s": DRAIN_S, "give_back_after_s": 15},
        }
    )


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with running(two_pools(), port=free_port(), num_cpus=4) as service:
        yield service


def running_now() -> dict[str, int]:
    """Running replicas of the pools."""
    found = running_replicas("default", {name: f"Asr-{name}" for name in POOLS})
    return {name: len(replicas) for name, replicas in found.items()}


class Watch:
    """Records the running replicas of the pools, twice a second, whenever they change."""

    def __init__(self) -> None:
        self.began_s = time.monotonic()
        self.seen: list[tuple[float, dict[str, int]]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(0.5):
            now = running_now()
            if not self.seen or self.seen[-1][1] != now:
                self.seen.append((time.monotonic() - self.began_s, now))
                print(f"{self.seen[-1][0]:6.1f} s  {now}")

    def first_s(self, pool: str, least: int = 1) -> float:
        return next(at_s for at_s, now in self.seen if now.get(pool, 0) >= least)

    def wait_for_nothing(self, limit_s: float) -> None:
        deadline_s = time.monotonic() + limit_s
        while any(self.seen[-1][1].values()):
            assert time.monotonic() < deadline_s, self.seen
            time.sleep(0.5)

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()


def rises_once_then_falls(counts: list[int]) -> bool:
    peak = counts.index(max(counts))
    up, down = counts[: peak + 1], counts[peak:]
    return up == sorted(up) and down == sorted(down, reverse=True)


def test_pools_grow_the_cheap_one_first_and_shrink_to_zero_again(url: str) -> None:
    assert running_now() == dict.fromkeys(POOLS, 0)
    speech = np.concatenate([part for i in range(12) for part in (voice(5000, seed=i), PAUSE)])
    watch = Watch()

    def post(_: int) -> str:
        files = {"file": ("recording.wav", wav_bytes(speech))}
        return str(httpx.post(url + PATH, files=files, timeout=600).json()["text"])

    with ThreadPoolExecutor(8) as pool:
        texts = list(pool.map(post, range(8)))  # eight minutes of speech
    drained_s = time.monotonic() - watch.began_s
    print(f"drained after {drained_s:.1f} s")
    watch.wait_for_nothing(limit_s=300)
    watch.stop()

    assert len(set(texts)) == 1
    assert texts[0]
    assert watch.first_s("cheap") <= watch.first_s("dear") < drained_s
    counts = {name: [now.get(name, 0) for _, now in watch.seen] for name in POOLS}
    assert max(counts["cheap"]) == 2
    assert rises_once_then_falls(counts["cheap"])
    assert rises_once_then_falls(counts["dear"])


def test_a_second_application_leaves_the_first_in_place(url: str) -> None:
    deploy(two_pools(), app_name="second", route_prefix="/second")

    applications = serve.status().applications
    assert {name: app.status for name, app in applications.items()} == {
        "default": "RUNNING",
        "second": "RUNNING",
    }
    assert httpx.get(f"{url}/readyz").status_code == 200
    assert httpx.get(f"{url}/second/readyz").status_code == 200
