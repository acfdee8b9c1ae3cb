"""A second pool starts during one recording, and stops during the next."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import httpx
import numpy as np
import pytest

from benchmarks.machine import free_port
from benchmarks.material.recordings import wav_bytes
from benchmarks.material.synthetic_audio import voice
from deployments.config import AppConfig
from deployments.replicas import running_replicas
from deployments.serve import running
from tests.e2e.test_bad_input import PATH

pytestmark = [pytest.mark.ray, pytest.mark.slow]

PAUSE = np.zeros(16_000, np.int16)
SPEECH = np.concatenate([part for i in range(10) for part in (voice(5000, seed=i), PAUSE)])
ALWAYS, MORE = "always", "more"
ALWAYS_SPEED, MORE_SPEED = 30, 10  # `fake:slow` does 5 audio seconds per second and thread
DRAIN_S = 24  # the first pool drains SMALL in 16 s, and in time even at two thirds of its speed
GIVE_BACK_AFTER_S = 25
# Lengths of the recordings, in times SPEECH. The first pool alone needs 36 s for LARGE.
LARGE, SMALL = 18, 8
SECOND_AFTER_S = 9.0  # the second pool is given back about 14 s after the first recording


def two_pools() -> AppConfig:
    pool = {"num_cpus": 0.2, "start_s": 5, "batch_audio_s": 10}
    return AppConfig.model_validate(
        {
            "models": {"vad": "fake:vad", "asr": "fake:slow", "punctuation": "fake:punctuation"},
            "pools": {
                ALWAYS: pool | {"speed": ALWAYS_SPEED, "num_threads": 6, "price_per_hour": 1},
                MORE: pool
                | {
                    "speed": MORE_SPEED,
                    "num_threads": 2,
                    "min_replicas": 0,
                    "price_per_hour": 5,
                },
            },
            "dispatcher": {"poll_s": 0.5},
            "autoscaling": {"drain_s": DRAIN_S, "give_back_after_s": GIVE_BACK_AFTER_S},
        }
    )


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with running(two_pools(), port=free_port(), num_cpus=4) as service:
        yield service


class Second:
    """Records twice a second whether the second pool has a replica, and the pool's backlog."""

    def __init__(self, url: str) -> None:
        self.began_s = time.monotonic()
        self.samples: list[tuple[float, bool, float]] = []  # s, runs, audio seconds
        self._url, self._stop = url, threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(0.5):
            pools = httpx.get(f"{self._url}/readyz", timeout=60).json()["pools"]
            runs = bool(running_replicas("default", {MORE: f"Asr-{MORE}"})[MORE])
            self.samples.append((self.now_s(), runs, pools[MORE]["backlog_audio_s"]))

    def now_s(self) -> float:
        return time.monotonic() - self.began_s

    def changes_s(self) -> list[float]:
        """When the pool's replica started, when it stopped, and so on."""
        return [b for (_, was, _), (b, runs, _) in pairwise(self.samples) if was != runs]

    def work_between(self, from_s: float, to_s: float) -> list[float]:
        return [audio_s for at_s, _, audio_s in self.samples if from_s < at_s < to_s]

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()


def post(url: str, times: int, second: Second) -> tuple[float, list[dict[str, Any]]]:
    """Sends a recording. Returns when the answer came, and the answer's segments."""
    files = {"file": ("recording.wav", wav_bytes(np.tile(SPEECH, times)))}
    form = {"response_format": "detailed_json"}
    answer = httpx.post(url + PATH, files=files, data=form, timeout=600)
    assert answer.status_code == 200
    return second.now_s(), answer.json()["segments"]


def test_a_recording_uses_a_pool_that_starts_and_loses_nothing_when_it_stops(url: str) -> None:
    second = Second(url)
    with ThreadPoolExecutor(1) as pool:
        first_end_s, large = post(url, LARGE, second)
        time.sleep(SECOND_AFTER_S)
        second_began_s = second.now_s()
        under_way: Future[tuple[float, list[dict[str, Any]]]] = pool.submit(
            post, url, SMALL, second
        )
        second_end_s, small = under_way.result()
    _, alone = post(url, SMALL, second)
    second.stop()
    came_s, went_s = second.changes_s()
    work = second.work_between(came_s + 1, first_end_s - 2)
    print(f"{MORE}: {came_s:.1f} to {went_s:.1f} s; recordings: to {first_end_s:.1f} s,")
    print(f"{second_began_s:.1f} to {second_end_s:.1f} s; {count(large)}, {count(small)}")

    assert came_s < first_end_s
    assert min(work) > 0  # for the rest of the recording
    assert len(work) > 5
    assert second_began_s < went_s < second_end_s
    assert count(small)[MORE] > 0
    assert count(alone) == {ALWAYS: len(alone), MORE: 0}
    assert [s["error"] for s in (*large, *small)] == [None] * len((*large, *small))
    assert [s["text"] for s in small] == [s["text"] for s in alone]
    assert all(s["text"] for s in small)
    assert words(large) == words(small)[:10] * LARGE


def count(segments: list[dict[str, Any]]) -> dict[str, int]:
    """The number of segments that each pool recognised."""
    pools = [s["pool"] for s in segments]
    return {name: pools.count(name) for name in (ALWAYS, MORE)}


def words(segments: list[dict[str, Any]]) -> list[list[str]]:
    """The words of each segment, without punctuation, which depends on the text before."""
    return [[word["text"] for word in s["words"]] for s in segments]
