"""Queues of Serve that are full, over real HTTP: the answers to those who come too late."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
import ray
from ray import serve

from benchmarks.machine import free_port
from deployments.api.ingress import Ingress
from deployments.app import _deployment
from deployments.config import IngressSettings, Limits
from deployments.core.types import Delta, Done, StreamEvent, TranscribeOptions, Transcript, Upload
from tests.clients.fakes import ENGINE
from tests.core.transcripts import PARAFORMER

pytestmark = [pytest.mark.ray, pytest.mark.slow]

N_CLIENTS = 30
TURN_S = 0.2
PAGE = "https://notes.example.com"


@serve.deployment(name="Router", max_ongoing_requests=2, max_queued_requests=2)
class SlowRouter:
    """Answers as the Router does, after a while."""

    async def transcribe(
        self, upload: Upload, options: TranscribeOptions, request: str
    ) -> Transcript:
        await asyncio.sleep(TURN_S)
        return PARAFORMER

    async def stream(
        self, upload: Upload, options: TranscribeOptions, request: str
    ) -> AsyncIterator[StreamEvent]:
        await asyncio.sleep(TURN_S)
        yield Delta(PARAFORMER.text)
        yield Done(PARAFORMER)

    async def models(self) -> list[dict[str, str]]:
        await asyncio.sleep(TURN_S)
        return []


@pytest.fixture(scope="module")
def ray_port() -> Iterator[int]:
    port = free_port()
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        serve.start(http_options={"host": "127.0.0.1", "port": port})
        yield port
    finally:
        serve.shutdown()  # type: ignore[no-untyped-call]
        ray.shutdown()


def service(port: int, settings: IngressSettings) -> str:
    """The URL of our own front over the slow router."""
    front = _deployment(Ingress, "Ingress", settings, 5.0)
    router = SlowRouter.options(ray_actor_options={"num_cpus": 0.1}).bind()
    app = front.bind(router, ENGINE, Limits(), (PAGE,))
    serve.run(app, name="full", route_prefix="/")
    return f"http://127.0.0.1:{port}"


def at_once(method: str, url: str, **fields: str) -> list[httpx.Response]:
    """The answers to `N_CLIENTS` requests that are sent at the same time."""

    async def send() -> list[httpx.Response]:
        async with httpx.AsyncClient(
            timeout=60, trust_env=False, limits=httpx.Limits(max_connections=None)
        ) as client:
            form: dict[str, Any] = {"data": fields, "files": {"file": ("a.wav", b"sound")}}
            how = (form if fields else {}) | {"headers": {"Origin": PAGE}}
            return await asyncio.gather(
                *(client.request(method, url, **how) for _ in range(N_CLIENTS))
            )

    return asyncio.run(send())


@pytest.mark.parametrize(
    ("method", "path", "fields"),
    [
        ("POST", "/v1/audio/transcriptions", {"model": "whisper-1"}),
        ("POST", "/v1/audio/transcriptions", {"stream": "true"}),
        ("GET", "/v1/models", {}),
    ],
)
def test_a_full_router_is_a_503_in_json_with_retry_after(
    ray_port: int, method: str, path: str, fields: dict[str, str]
) -> None:
    url = service(ray_port, IngressSettings(num_cpus=0.1))

    answers = at_once(method, url + path, **fields)

    refused = [answer for answer in answers if answer.status_code != 200]
    assert 0 < len(refused) < N_CLIENTS
    assert {answer.status_code for answer in refused} == {503}
    assert {answer.json()["error"]["code"] for answer in refused} == {"overloaded"}
    assert {answer.headers["retry-after"] for answer in refused} == {"5"}
    assert {answer.headers["access-control-allow-origin"] for answer in answers} == {PAGE}


def test_a_full_front_is_serves_own_503_with_retry_after(ray_port: int) -> None:
    tight = IngressSettings(num_cpus=0.1, max_ongoing_requests=1, max_queued_requests=1)
    url = service(ray_port, tight)

    answers = at_once("POST", f"{url}/v1/audio/transcriptions", model="whisper-1")

    refused = [answer for answer in answers if answer.status_code != 200]
    assert Counter(answer.status_code for answer in refused) == {503: len(refused)}
    assert refused
    assert {answer.headers["retry-after"] for answer in refused} == {"5"}
