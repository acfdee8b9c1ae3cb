"""What Serve's proxy answers where no replica of the service answered: JSON with Retry-After."""

from __future__ import annotations

import httpx
import pytest
from ray.serve._private.http_util import validate_http_proxy_callback_return
from ray.serve._private.utils import call_function_from_import_path
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from clients.attempts import Unreached
from clients.messages import error_of
from deployments.api.json_errors import JsonErrors
from deployments.api.pace import Paced
from deployments.api.proxy import IMPORT_PATH
from deployments.core.errors import Overloaded
from tests.clients.fakes import run

PATH = "/v1/audio/transcriptions"


async def nothing(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve's proxy where the replica was lost: it returns without any message."""


def answer_of(app: ASGIApp, path: str = PATH) -> httpx.Response:
    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(JsonErrors(app))
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            return await client.post(path, headers={"X-Request-Id": "abc"})

    response: httpx.Response = run(ask())
    return response


@pytest.mark.parametrize(
    ("app", "wait_s"),
    [
        (nothing, 5),
        (PlainTextResponse("Too many requests.", 503), 5),
        (PlainTextResponse("Too many requests.", 503, {"Retry-After": "7"}), 7),
        (PlainTextResponse("Deployment is unavailable.", 503, {"Retry-After": "soon"}), 5),
    ],
)
def test_no_replica_is_a_503_in_json_with_retry_after(app: ASGIApp, wait_s: int) -> None:
    response = answer_of(app)

    assert (response.status_code, response.headers["retry-after"]) == (503, str(wait_s))
    assert response.json()["error"]["code"] == "overloaded"
    assert response.headers["x-request-id"] == "abc"
    assert type(error_of(response)) is Overloaded


@pytest.mark.parametrize(
    ("app", "status", "code"),
    [
        (PlainTextResponse("Path '/x' not found. Ping /-/routes", 404), 404, "not_found"),
        (PlainTextResponse("Request abc timed out after 9s.", 408), 408, "request_timeout"),
        (PlainTextResponse("Internal Server Error", 500), 500, "internal_server_error"),
    ],
)
def test_other_errors_in_plain_text_keep_their_status_and_text(
    app: PlainTextResponse, status: int, code: str
) -> None:
    response = answer_of(app)

    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (status, code)
    assert error["message"] == bytes(app.body).decode()
    assert error["type"] == ("server_error" if status >= 500 else "invalid_request_error")


def test_the_client_asks_again_where_the_proxy_knows_no_route_yet() -> None:
    error = error_of(answer_of(PlainTextResponse("Path '/x' not found. Ping /-/routes", 404)))

    assert type(error) is Unreached


@pytest.mark.parametrize(
    ("app", "path", "status", "content"),
    [
        (PlainTextResponse("今天天气很好。"), PATH, 200, "今天天气很好。"),
        (JSONResponse({"error": "ours"}, 400), PATH, 400, '{"error":"ours"}'),
        (Response(status_code=400), PATH, 400, ""),
        (StreamingResponse(iter(["data: 1", "data: 2"])), PATH, 200, "data: 1data: 2"),
        (PlainTextResponse("draining", 503), "/-/healthz", 503, "draining"),
    ],
)
def test_answers_of_the_service_pass_unchanged(
    app: ASGIApp, path: str, status: int, content: str
) -> None:
    response = answer_of(app, path)

    assert (response.status_code, response.text) == (status, content)


async def broken(scope: Scope, receive: Receive, send: Send) -> None:
    """A stream whose replica is lost after its first event."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})


def test_an_answer_that_has_begun_gets_no_second_one() -> None:
    with pytest.raises(AssertionError):  # httpx's own, where an answer has no end
        answer_of(broken)


def test_serve_accepts_the_callback() -> None:
    found = validate_http_proxy_callback_return(call_function_from_import_path(IMPORT_PATH))

    assert [middleware.cls for middleware in found] == [JsonErrors, Paced]
