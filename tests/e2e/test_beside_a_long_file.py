"""Short requests beside a recording of three hours, on real Ray and HTTP: none is refused."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest

from benchmarks.machine import free_port
from benchmarks.material.recordings import wav_bytes
from benchmarks.material.synthetic_audio import voice
from deployments.config import AppConfig
from deployments.serve import running
from tests.e2e.test_bad_input import PATH

pytestmark = [pytest.mark.ray, pytest.mark.slow]

N_SHORT = 200
N_CLIENTS = 16
PAUSE = np.zeros(16_000, np.int16)
SHORT = wav_bytes(voice(2000, seed=1))
HOUR = np.tile(
    np.concatenate([part for i in range(20) for part in (voice(5000, seed=i), PAUSE)]), 30
)
GENEROUS_S = 300.0


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A pool of two replicas at 9 times real time, where three hours are 600 s of work."""
    config = AppConfig.model_validate(
        {
            "models": {"vad": "fake:vad", "asr": "fake:slow", "punctuation": "fake:punctuation"},
            "pools": {
                "only": {
                    "num_cpus": 0.1,
                    "speed": 9,
                    "batch_audio_s": 10,
                    "min_replicas": 2,
                    "max_replicas": 2,
                }
            },
            "dispatcher": {"max_queue_s": 60},
        }
    )
    with running(config, port=free_port(), num_cpus=4) as service:
        yield service


def test_two_hundred_short_requests_beside_three_hours_are_all_served(url: str) -> None:
    def post(wav: bytes) -> int:
        return httpx.post(
            url + PATH, files={"file": ("a.wav", wav)}, timeout=GENEROUS_S
        ).status_code

    assert post(SHORT) == 200
    with httpx.Client(timeout=GENEROUS_S) as client, ThreadPoolExecutor(N_CLIENTS) as pool:
        data = {"stream": "true", "response_format": "detailed_json"}
        files = {"file": ("long.wav", wav_bytes(np.tile(HOUR, 3)))}
        with client.stream("POST", url + PATH, files=files, data=data) as long:
            assert long.status_code == 200
            while httpx.get(f"{url}/readyz", timeout=10).json()["queue_s"] <= 60:
                time.sleep(0.2)
            ready = httpx.get(f"{url}/readyz", timeout=10).json()
            statuses = list(pool.map(post, [SHORT] * N_SHORT))
            another = post(wav_bytes(HOUR[: 70 * 16_000]))

    assert ready["queue_s"] > 60 > ready["interactive_queue_s"]
    assert statuses == [200] * N_SHORT
    assert another == 503  # a recording is still refused by what waits
