"""SIGTERM to `make serve` under load: requests under way are finished, new ones are refused."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest

from benchmarks.machine import free_port
from benchmarks.material.recordings import wav_bytes
from benchmarks.material.synthetic_audio import voice
from tests.e2e.test_bad_input import PATH
from tests.e2e.test_serve_command import serving, wait_for_line

pytestmark = [pytest.mark.ray, pytest.mark.slow]

# Its one replica sleeps for a tenth of the audio's length.
SLOW = """
applications:
  - name: default
    route_prefix: /
    import_path: deployments.app:build
    args:
      models: {vad: "fake:vad", asr: "fake:slow", punctuation: "fake:punctuation"}
      pools: {only: {num_cpus: 0.2, speed: 10, batch_audio_s: 30}}
"""
PAUSE = np.zeros(16_000, np.int16)
SHORT = wav_bytes(voice(3000, seed=1))
LONG = wav_bytes(np.concatenate([part for i in range(20) for part in (voice(5000, seed=i), PAUSE)]))
GENEROUS_S = 120.0
SERVE_WAITS_S = 30.0  # for replicas that still have calls, when Serve is shut down


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "slow.yaml"
    file.write_text(SLOW, encoding="utf-8")
    return file


def post(url: str, wav: bytes, stream: bool = False) -> httpx.Response:
    data = {"stream": "true"} if stream else {}
    return httpx.post(url + PATH, files={"file": ("a.wav", wav)}, data=data, timeout=GENEROUS_S)


def answers_until_closed(url: str) -> Iterator[httpx.Response]:
    """The answers to short requests, one after the other, until nothing listens any more."""
    while True:
        try:
            yield post(url, SHORT)
        except httpx.TransportError:
            return


def test_sigterm_fails_no_request_that_is_under_way(config: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with serving(config, port) as process, ThreadPoolExecutor(20) as pool:
        wait_for_line(process, "Ready")
        post(url, SHORT)
        long: list[Future[httpx.Response]] = [
            pool.submit(post, url, LONG, stream) for stream in (False, True)
        ]
        short = [pool.submit(post, url, SHORT) for _ in range(8)]
        time.sleep(1.0)
        process.send_signal(signal.SIGTERM)
        time.sleep(1.0)
        ready = httpx.get(f"{url}/readyz", timeout=10)
        assert not all(future.done() for future in long)
        new = list(answers_until_closed(url))
        last_s = time.monotonic()
        status = process.wait(timeout=GENEROUS_S)
        ended_s = time.monotonic()

    old = [future.result() for future in (*long, *short)]
    assert [answer.status_code for answer in old] == [200] * len(old)
    assert "transcript.text.done" in old[1].text
    assert ready.status_code == 503
    assert ready.json()["draining"]
    assert status == 0
    assert {answer.status_code for answer in new} == {503}
    assert all(answer.json()["error"]["code"] == "overloaded" for answer in new)
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in new)
    print(f"ended {ended_s - last_s:.1f} s after the last answer; {len(new)} refused")
    assert ended_s - last_s < 30


def test_a_second_signal_ends_at_once(config: Path) -> None:
    port = free_port()
    with serving(config, port) as process, ThreadPoolExecutor(1) as pool:
        wait_for_line(process, "Ready")
        cut = pool.submit(post, f"http://127.0.0.1:{port}", LONG)
        time.sleep(1.0)
        process.send_signal(signal.SIGTERM)
        time.sleep(1.0)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        began_s = time.monotonic()
        assert process.wait(timeout=GENEROUS_S) == 0
        assert time.monotonic() - began_s < SERVE_WAITS_S
        assert cut.exception() or cut.result().status_code >= 500


def test_ray_listens_on_loopback_but_for_one_port_of_each_replica(config: Path) -> None:
    port = free_port()
    with serving(config, port) as process:
        wait_for_line(process, "Ready")
        processes = [psutil.Process(process.pid)]
        processes += processes[0].children(recursive=True)
        open_to_others = [
            " ".join(one.cmdline())
            for one in processes
            for socket in one.net_connections("tcp")
            if socket.status == psutil.CONN_LISTEN and not is_loopback(socket.laddr.ip)
        ]
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=GENEROUS_S)

    assert all(title.startswith("ray::ServeReplica") for title in open_to_others)
    assert len(open_to_others) == len(set(open_to_others)) > 0


def is_loopback(address: str) -> bool:
    return address.removeprefix("::ffff:").startswith("127.") or address == "::1"
