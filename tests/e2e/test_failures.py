"""Processes die, clients leave, limits are reached: on real Ray, with real kills."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
from ray import serve

from clients.http import Client
from deployments.app import build
from deployments.core.audio import decode
from deployments.core.errors import Overloaded, TimedOut
from deployments.core.types import Transcript
from tests.core.encode import encode
from tests.e2e.conftest import SAMPLE, Service, two_unequal_pools
from tests.invariants import check_invariants

pytestmark = pytest.mark.ray

TIMEOUT_S = 8.0


@pytest.fixture(scope="module")
def long_recording() -> bytes:
    """Fifteen minutes: several seconds of work for the tiny models."""
    audio = decode(np.fromfile(SAMPLE, np.uint8), channel=None, max_duration_s=600)
    return encode(np.tile(audio, 4)[None], rate_hz=16_000, container="mp3", codec="libmp3lame")


@pytest.fixture(scope="module")
def expected(service: Service, long_recording: bytes) -> Transcript:
    with Client(service.url) as client:
        return client.transcribe(long_recording)


def replicas_of(deployment: str, app_name: str = "default") -> list[psutil.Process]:
    """Our own processes that are replicas of the deployment."""
    title = f"ray::ServeReplica:{app_name}:{deployment}"
    return [
        process
        for process in psutil.Process().children(recursive=True)
        if process.status() != psutil.STATUS_ZOMBIE and title in " ".join(process.cmdline())
    ]


def replica_of(deployment: str, app_name: str = "default") -> psutil.Process:
    """One of them."""
    return replicas_of(deployment, app_name)[0]


def cpu_s(processes: Sequence[psutil.Process]) -> float:
    """CPU time that the processes have taken so far."""
    return sum(sum(process.cpu_times()[:2]) for process in processes)


def events_of(response: httpx.Response) -> Iterator[dict[str, Any]]:
    """The server-sent events of a stream, as they come."""
    for line in response.iter_lines():
        if line.startswith("data: {"):
            yield json.loads(line.removeprefix("data: "))


def wait_until(condition: Callable[[], bool], *, limit_s: float) -> float:
    """Seconds until the condition held; fails after the limit."""
    began_s = time.monotonic()
    while not condition():
        assert time.monotonic() - began_s < limit_s
        time.sleep(0.1)
    return time.monotonic() - began_s


@pytest.mark.parametrize("deployment", ["Asr-wide", "Asr-narrow", "Dispatcher", "Punctuation"])
def test_a_process_killed_in_the_middle_costs_no_word(
    service: Service, long_recording: bytes, expected: Transcript, deployment: str
) -> None:
    with Client(service.url) as client, ThreadPoolExecutor(1) as pool:
        wait_until(lambda: bool(client.ready()["ready"]), limit_s=60)
        victim = replica_of(deployment)
        running = pool.submit(client.transcribe, long_recording)
        wait_until(lambda: client.ready()["requests"] > 0, limit_s=30)
        time.sleep(0.5)
        assert not running.done()
        victim.send_signal(signal.SIGKILL)
        transcript = running.result(timeout=120)

    check_invariants(transcript)
    assert transcript.text == expected.text
    assert transcript.words == expected.words
    assert not transcript.warnings


def test_the_vad_killed_in_the_middle_costs_no_word(
    service: Service, long_recording: bytes, expected: Transcript
) -> None:
    with Client(service.url) as client, ThreadPoolExecutor(1) as pool:
        wait_until(lambda: bool(client.ready()["ready"]), limit_s=60)
        victim = replica_of("Vad")
        victim.suspend()  # so that the recording is there when it dies
        running = pool.submit(client.transcribe, long_recording)
        time.sleep(2.0)
        victim.kill()
        transcript = running.result(timeout=120)

    assert transcript.text == expected.text


def test_a_router_killed_in_the_middle_is_a_503_and_the_client_comes_again(
    service: Service, long_recording: bytes, expected: Transcript
) -> None:
    with Client(service.url, attempts=1) as hasty, Client(service.url) as patient:
        wait_until(lambda: bool(patient.ready()["ready"]), limit_s=60)
        victim = replica_of("Router")
        with ThreadPoolExecutor(2) as pool:
            failing = pool.submit(hasty.transcribe, long_recording)
            coming_again = pool.submit(patient.transcribe, long_recording)
            wait_until(lambda: patient.ready()["requests"] > 0, limit_s=30)
            victim.kill()
            with pytest.raises(Overloaded):
                failing.result(timeout=60)
            transcript = coming_again.result(timeout=120)

    assert transcript.text == expected.text


def leave_a_stream(url: str, recording: bytes) -> None:
    """Goes as soon as the first text is there, long before the last."""
    form = {"stream": "true", "response_format": "detailed_json"}
    with httpx.stream("POST", url, files={"file": recording}, data=form, timeout=60) as response:
        progress = next(e for e in events_of(response) if e["type"] == "transcript.progress")
    assert progress["done_ms"] < 450_000  # half of the recording


def leave_a_request(url: str, recording: bytes) -> None:
    """Goes while it waits for the answer."""
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(url, files={"file": recording}, timeout=httpx.Timeout(2.0, connect=5))


@pytest.mark.parametrize("leave", [leave_a_stream, leave_a_request])
def test_after_a_client_has_gone_no_engine_works_for_it(
    service: Service, long_recording: bytes, leave: Callable[[str, bytes], None]
) -> None:
    with Client(service.url) as client:
        wait_until(lambda: bool(client.ready()["ready"]), limit_s=60)
        # those of a router that was killed are forgotten after a while
        wait_until(lambda: client.ready()["requests"] == 0, limit_s=30)
        replicas = [p for name in ("wide", "narrow") for p in replicas_of(f"Asr-{name}")]
        leave(f"{service.url}/v1/audio/transcriptions", long_recording)
        gone_s = wait_until(lambda: client.ready()["requests"] == 0, limit_s=10)
        time.sleep(max(0.0, 1.0 - gone_s))  # what is being computed then may end
        before_s = cpu_s(replicas)
        time.sleep(3.0)
        worked_s = cpu_s(replicas) - before_s

    assert gone_s < 1.5
    assert len(replicas) == 3
    assert worked_s < 0.5  # of the six seconds that two cores have


@pytest.fixture(scope="module")
def strict(service: Service, models: dict[str, str]) -> Iterator[str]:
    """A second application, with one ASR replica, that promises little."""
    config = two_unequal_pools(models)
    assert config.pools != "auto"
    slow = config.pools["wide"].model_copy(update={"speed": 0.1})
    hasty = config.model_copy(
        update={
            "pools": {"slow": slow},
            "limits": config.limits.model_copy(update={"request_timeout_s": TIMEOUT_S}),
            "dispatcher": config.dispatcher.model_copy(update={"max_queue_s": 5.0}),
        }
    )
    serve.run(build(hasty), name="strict", route_prefix="/strict")
    yield f"{service.url}/strict"
    serve.delete("strict")


@pytest.fixture
def hung(strict: str) -> Iterator[str]:
    """The same while its replica hangs."""
    process = replica_of("Asr-slow", "strict")
    process.suspend()
    yield strict
    process.resume()


def test_a_stream_that_hangs_in_the_middle_ends_with_an_error_event(
    strict: str, long_recording: bytes
) -> None:
    process = replica_of("Asr-slow", "strict")
    began_s = time.monotonic()
    try:
        with httpx.stream(
            "POST",
            f"{strict}/v1/audio/transcriptions",
            files={"file": ("long.mp3", long_recording)},
            data={"stream": "true", "response_format": "detailed_json"},
            timeout=60,
        ) as response:
            events = events_of(response)
            first = next(events)
            process.suspend()
            *_, last = events
    finally:
        process.resume()
    took_s = time.monotonic() - began_s

    assert response.status_code == 200
    assert first["type"] != "error"
    assert last["type"] == "error"
    assert last["error"]["code"] == "timed_out"
    assert TIMEOUT_S <= took_s < TIMEOUT_S + 10


def test_a_request_that_takes_too_long_is_a_504(hung: str) -> None:
    with Client(hung, attempts=1) as client, pytest.raises(TimedOut) as caught:
        client.transcribe(SAMPLE)

    assert (caught.value.stage, caught.value.limit_s) == ("request", TIMEOUT_S)


def test_a_request_that_would_wait_too_long_is_a_503_with_retry_after(hung: str) -> None:
    with Client(hung, attempts=1) as client, ThreadPoolExecutor(1) as pool:
        wait_until(lambda: client.ready()["requests"] == 0, limit_s=10)
        first = pool.submit(client.transcribe, SAMPLE)
        wait_until(lambda: client.ready()["queue_s"] > 5, limit_s=TIMEOUT_S)
        response = httpx.post(
            f"{hung}/v1/audio/transcriptions", files={"file": SAMPLE.read_bytes()}, timeout=30
        )
        with pytest.raises(Overloaded):
            client.transcribe(SAMPLE)
        with pytest.raises(TimedOut):
            first.result()

    assert response.status_code == 503
    assert int(response.headers["retry-after"]) >= 1
    assert response.json()["error"]["code"] == "overloaded"
