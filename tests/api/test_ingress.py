"""The HTTP front when the router does not answer in time, or cannot be reached."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any, Self

import httpx
import pytest
from grpc import StatusCode
from grpc.aio import AioRpcError, Metadata
from ray.exceptions import ActorDiedError, RayTaskError
from ray.serve._private.common import DeploymentID
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.testclient import TestClient

from deployments.api.ingress import Front, create_app
from deployments.config import Limits
from deployments.core.errors import Draining, ModelUnavailable
from deployments.core.types import Delta, StreamEvent
from tests.clients.fakes import ENGINE

TIMEOUT_S = 0.3


class Stuck:
    """A router's answer that never comes; of a stream, only the first `events` come."""

    def __init__(self, *events: StreamEvent) -> None:
        self._events = events
        self.was_cancelled = False

    async def __aiter__(self) -> AsyncIterator[StreamEvent]:
        for event in self._events:
            yield event
        await asyncio.Event().wait()

    def __await__(self) -> Iterator[Any]:
        return asyncio.Event().wait().__await__()

    def cancel(self) -> None:
        self.was_cancelled = True


class Handle:
    """A router's handle whose every call has this answer."""

    def __init__(self, answer: Stuck) -> None:
        self._answer = answer
        self.transcribe = self.stream = self.models = self.model = self.ready = self

    def options(self, *, stream: bool = False, _by_reference: bool = True) -> Self:
        return self

    def remote(self, *arguments: object) -> Stuck:
        return self._answer


class Failing(Stuck):
    """A router's answer that is an error; of a stream, after the `events`."""

    def __init__(self, error: Exception, *events: StreamEvent) -> None:
        super().__init__(*events)
        self._error = error

    async def __aiter__(self) -> AsyncIterator[StreamEvent]:
        for event in self._events:
            yield event
        raise self._error

    def __await__(self) -> Iterator[Any]:
        raise self._error
        yield


async def as_serve_answers(request: Request, error: Exception) -> Response:
    return PlainTextResponse("dropped", 503)


def app_of(answer: Stuck) -> Starlette:
    """The application as it is in a replica, where Serve adds handlers of its own."""
    app = create_app(Front(Handle(answer), ENGINE, Limits(request_timeout_s=TIMEOUT_S)))
    for kind in (BackPressureError, DeploymentUnavailableError):
        app.add_exception_handler(kind, as_serve_answers)
    return app


def post(answer: Stuck, **fields: str) -> httpx.Response:
    with TestClient(app_of(answer), raise_server_exceptions=False) as client:
        files = {"file": ("a.wav", b"sound")}
        return client.post("/v1/audio/transcriptions", data=fields, files=files)


def get(answer: Stuck, path: str) -> httpx.Response:
    with TestClient(app_of(answer), raise_server_exceptions=False) as client:
        return client.get(path)


@pytest.mark.parametrize("stream", ["false", "true"])
def test_a_router_that_does_not_answer_is_a_504_and_its_work_is_cancelled(stream: str) -> None:
    stuck = Stuck()

    answer = post(stuck, stream=stream)

    assert (answer.status_code, answer.json()["error"]["code"]) == (504, "timed_out")
    assert stuck.was_cancelled


def test_a_stream_that_stops_midway_ends_with_the_error() -> None:
    stuck = Stuck(Delta("今天"))

    answer = post(stuck, stream="true")

    delta, error = (line for line in answer.text.splitlines() if line)
    assert (answer.status_code, '"transcript.text.delta"' in delta) == (200, True)
    assert '"code":"timed_out"' in error
    assert stuck.was_cancelled


FULL = BackPressureError(65, 64)
UNAVAILABLE = {
    "full": FULL,
    "full, seen from a router": RayTaskError("f", "", FULL).as_instanceof_cause(),  # type: ignore[no-untyped-call]
    "gone": DeploymentUnavailableError(DeploymentID("Router")),
    "died": ActorDiedError(),
    "connection broke": AioRpcError(StatusCode.CANCELLED, Metadata(), Metadata()),
    "no weights": ModelUnavailable("tiny", "fetch it"),
}


def expect_busy(answer: httpx.Response) -> None:
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) >= 1
    assert answer.json()["error"]["type"] == "server_error"


@pytest.mark.parametrize("error", UNAVAILABLE)
@pytest.mark.parametrize("stream", ["false", "true"])
def test_every_503_is_json_and_says_when_to_come_again(error: str, stream: str) -> None:
    expect_busy(post(Failing(UNAVAILABLE[error]), stream=stream))


@pytest.mark.parametrize("error", UNAVAILABLE)
@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/whisper-1"])
def test_so_is_every_503_of_the_models(error: str, path: str) -> None:
    expect_busy(get(Failing(UNAVAILABLE[error]), path))


@pytest.mark.parametrize("error", UNAVAILABLE)
def test_a_service_that_is_not_ready_says_when_to_ask_again(error: str) -> None:
    answer = get(Failing(UNAVAILABLE[error]), "/readyz")

    assert (answer.status_code, answer.json()["ready"]) == (503, False)
    assert int(answer.headers["retry-after"]) >= 1


@pytest.mark.parametrize("error", UNAVAILABLE)
def test_a_stream_that_meets_a_full_queue_midway_ends_with_the_error(error: str) -> None:
    answer = post(Failing(UNAVAILABLE[error], Delta("今天")), stream="true")

    last = answer.text.splitlines()[-2]
    assert answer.status_code == 200
    assert '"type":"error"' in last
    assert "overloaded" in last or "model_unavailable" in last


def test_a_message_that_grpc_refuses_is_a_fault_of_the_service() -> None:
    refused = AioRpcError(StatusCode.RESOURCE_EXHAUSTED, Metadata(), Metadata())

    answer = post(Failing(refused))

    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "engine_failed")


STOPS = Draining(10.0)


@pytest.mark.parametrize(
    "error",
    [STOPS, RayTaskError("f", "", STOPS).as_instanceof_cause()],  # type: ignore[no-untyped-call]
    ids=["by gRPC", "by reference"],
)
def test_after_a_refusal_for_stopping_no_upload_is_read(error: Exception) -> None:
    url = "/v1/audio/transcriptions"
    with TestClient(app_of(Failing(error)), raise_server_exceptions=False) as client:
        client.post(url, files={"file": ("a.wav", b"sound")})

        unread = client.post(url)  # which has no file

    expect_busy(unread)
