"""Killed processes, clients that leave, and timeouts, on real Ray."""

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
from deployments.core.errors import Overloaded, TimedOut
from deployments.core.media.decode import decode
from deployments.core.types import Transcript
from tests.core.media.encode import encode
from tests.e2e.conftest import SAMPLE, Service, two_unequal_pools
from tests.invariants import check_invariants

pytestmark = pytest.mark.ray

TIMEOUT_S = 8.0
PATIENCE_S = 300.0  # a limit against waiting for ever; a busy machine is no failure


@pytest.fixture(scope="module")
def long_recording() -> bytes:
    """Fifteen minutes of audio, which are several seconds of work for the tiny models."""
    audio = decode(np.fromfile(SAMPLE, np.uint8), channel=None, max_duration_s=600)
    return encode(np.tile(audio, 4)[None], rate_hz=16_000, container="mp3", codec="libmp3lame")


@pytest.fixture(scope="module")
def expected(service: Service, long_recording: bytes) -> Transcript:
    with Client(service.url) as client:
        return client.transcribe(long_recording)


def replicas_of(deployment: str, app_name: str = "default") -> list[psutil.Process]:
    """The processes of this test that are replicas of the deployment."""
    title = f"ray::ServeReplica:{app_name}:{deployment}"
    return [
        process
        for process in psutil.Process().children(recursive=True)
        if process.status() != psutil.STATUS_ZOMBIE and title in " ".join(process.cmdline())
    ]


def replica_of(deployment: str, app_name: str = "default") -> psutil.Process:
    """One replica of the deployment."""
    return replicas_of(deployment, app_name)[0]


def cpu_s(processes: Sequence[psutil.Process]) -> float:
    """CPU time that the processes have used so far."""
    return sum(sum(process.cpu_times()[:2]) for process in processes)


def are_idle(processes: Sequence[psutil.Process]) -> bool:
    """Whether they use next to no CPU for a second, in which two cores could work for two."""
    before_s = cpu_s(processes)
    time.sleep(1.0)
    return cpu_s(processes) - before_s < 0.3


def events_of(response: httpx.Response) -> Iterator[dict[str, Any]]:
    """The server-sent events of a stream, as they arrive."""
    for line in response.iter_lines():
        if line.startswith("data: {"):
            yield json.loads(line.removeprefix("data: "))


def wait_until(condition: Callable[[], bool]) -> None:
    """Waits for the condition. Fails when the patience is at its end."""
    until_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < until_s
        time.sleep(0.1)


@pytest.mark.parametrize("deployment", ["Asr-wide", "Asr-narrow", "Dispatcher", "Punctuation"])
def test_a_process_killed_during_a_recording_costs_no_word(
    service: Service, long_recording: bytes, expected: Transcript, deployment: str
) -> None:
    with Client(service.url) as client, ThreadPoolExecutor(1) as pool:
        wait_until(lambda: bool(client.ready()["ready"]))
        victim = replica_of(deployment)
        running = pool.submit(client.transcribe, long_recording)
        wait_until(lambda: client.ready()["requests"] > 0)
        time.sleep(0.5)
        assert not running.done()
        victim.send_signal(signal.SIGKILL)
        transcript = running.result(timeout=PATIENCE_S)

    check_invariants(transcript)
    assert transcript.text == expected.text
    assert transcript.words == expected.words
    assert not transcript.warnings


def test_the_vad_killed_during_a_recording_costs_no_word(
    service: Service, long_recording: bytes, expected: Transcript
) -> None:
    with Client(service.url) as client, ThreadPoolExecutor(1) as pool:
        wait_until(lambda: bool(client.ready()["ready"]))
        victim = replica_of("Vad")
        victim.suspend()  # so that the VAD surely holds the recording when it is killed
        running = pool.submit(client.transcribe, long_recording)
        time.sleep(2.0)
        victim.kill()
        transcript = running.result(timeout=PATIENCE_S)

    assert transcript.text == expected.text


def test_a_router_killed_during_a_recording_gives_a_503_and_the_client_retries(
    service: Service, long_recording: bytes, expected: Transcript
) -> None:
    with Client(service.url, attempts=1) as hasty, Client(service.url) as patient:
        wait_until(lambda: bool(patient.ready()["ready"]))
        victim = replica_of("Router")
        with ThreadPoolExecutor(2) as pool:
            failing = pool.submit(hasty.transcribe, long_recording)
            retrying = pool.submit(patient.transcribe, long_recording)
            wait_until(lambda: patient.ready()["requests"] > 0)
            victim.kill()
            with pytest.raises(Overloaded):
                failing.result(timeout=PATIENCE_S)
            transcript = retrying.result(timeout=PATIENCE_S)

    assert transcript.text == expected.text


def test_an_ingress_killed_during_a_recording_gives_a_503_in_json_and_the_client_retries(
    service: Service, expected: Transcript, long_recording: bytes
) -> None:
    with Client(service.url) as patient, ThreadPoolExecutor(2) as pool:
        wait_until(lambda: bool(patient.ready()["ready"]))
        failing = pool.submit(post, service.url, long_recording)
        retrying = pool.submit(patient.transcribe, long_recording)
        wait_until(lambda: patient.ready()["requests"] > 1)
        replica_of("Ingress").kill()
        response, transcript = (
            failing.result(timeout=PATIENCE_S),
            retrying.result(timeout=PATIENCE_S),
        )

    assert (response.status_code, response.json()["error"]["code"]) == (503, "overloaded")
    assert int(response.headers["retry-after"]) >= 1
    assert transcript.text == expected.text


def post(url: str, recording: bytes) -> httpx.Response:
    """The answer to a request that is sent once."""
    return httpx.post(
        f"{url}/v1/audio/transcriptions", files={"file": recording}, timeout=PATIENCE_S
    )


def leave_a_stream(url: str, recording: bytes) -> None:
    """A client that disconnects at the first text, long before the last."""
    form = {"stream": "true", "response_format": "detailed_json"}
    with httpx.stream(
        "POST", url, files={"file": recording}, data=form, timeout=PATIENCE_S
    ) as response:
        progress = next(e for e in events_of(response) if e["type"] == "transcript.progress")
    assert progress["done_ms"] < 450_000  # half of the recording


def leave_a_request(url: str, recording: bytes) -> None:
    """A client that disconnects while it waits for the answer."""
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(url, files={"file": recording}, timeout=httpx.Timeout(2.0, connect=60))


@pytest.mark.parametrize("leave", [leave_a_stream, leave_a_request])
def test_after_a_client_disconnects_no_engine_works_for_it(
    service: Service, long_recording: bytes, leave: Callable[[str, bytes], None]
) -> None:
    def worked_s(work: Callable[[], object]) -> float:
        """CPU time of the ASR replicas during the work and until they have nothing to do."""
        before_s = cpu_s(replicas)
        work()
        # the requests of a router that an earlier test killed are forgotten after a while
        wait_until(lambda: client.ready()["requests"] == 0)
        wait_until(lambda: are_idle(replicas))
        return cpu_s(replicas) - before_s

    with Client(service.url) as client:
        wait_until(lambda: bool(client.ready()["ready"]))
        replicas = [p for name in ("wide", "narrow") for p in replicas_of(f"Asr-{name}")]
        whole_s = worked_s(lambda: client.transcribe(long_recording))
        left_s = worked_s(lambda: leave(f"{service.url}/v1/audio/transcriptions", long_recording))

    assert len(replicas) == 3
    assert left_s < 0.8 * whole_s


@pytest.fixture(scope="module")
def strict(service: Service, models: dict[str, str]) -> Iterator[str]:
    """A second application with one ASR replica, a short timeout and a short queue."""
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
    service.put("strict", lambda: serve.run(build(hasty), name="strict", route_prefix="/strict"))
    yield f"{service.url}/strict"
    service.take_away("strict", lambda: serve.delete("strict"))


@pytest.fixture
def hung(strict: str) -> Iterator[str]:
    """The second application while its ASR replica hangs."""
    with Client(strict) as client:  # what an earlier test left may still be recognised
        wait_until(lambda: client.ready()["queue_s"] < 1)
    process = replica_of("Asr-slow", "strict")
    process.suspend()
    yield strict
    process.resume()


def test_a_stream_whose_replica_hangs_ends_with_an_error_event(
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
            timeout=PATIENCE_S,
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
    assert took_s >= TIMEOUT_S


def test_a_request_that_takes_too_long_gets_a_504(hung: str) -> None:
    with Client(hung, attempts=1) as client, pytest.raises(TimedOut) as caught:
        client.transcribe(SAMPLE)

    assert (caught.value.stage, caught.value.limit_s) == ("request", TIMEOUT_S)


def test_a_request_that_would_wait_too_long_gets_a_503_with_retry_after(hung: str) -> None:
    with Client(hung, attempts=1) as client, ThreadPoolExecutor(1) as pool:
        wait_until(lambda: client.ready()["requests"] == 0)
        first = pool.submit(client.transcribe, SAMPLE)
        wait_until(lambda: client.ready()["queue_s"] > 5)
        response = httpx.post(
            f"{hung}/v1/audio/transcriptions", files={"file": SAMPLE.read_bytes()}, timeout=60
        )
        with pytest.raises(Overloaded):
            client.transcribe(SAMPLE)
        with pytest.raises(TimedOut):
            first.result()

    assert response.status_code == 503
    assert int(response.headers["retry-after"]) >= 1
    assert response.json()["error"]["code"] == "overloaded"
