"""Serve's proxy answers in the service's JSON too, where no replica of the service answered.

Without this middleware of the proxy (`proxy.py`) clients get plain text without Retry-After.
"""

from __future__ import annotations

from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments.core.errors import AsrError, Overloaded
from deployments.core.wire import retry_after_s, to_error_body

LOST_RETRY_S = 5.0  # Serve takes about as long to replace a replica
REQUEST_ID = "x-request-id"


class JsonErrors:
    """Replaces errors in plain text, which are Serve's, and the answer that never began.

    Serve's proxy begins no answer where the replica was lost, and uvicorn then sends a bare 500.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith("/-/"):  # Serve's own endpoints
            await self._app(scope, receive, send)
            return
        held: list[Message] = []  # Serve's error, until its text is whole
        has_begun = False

        async def take(message: Message) -> None:
            nonlocal has_begun
            if held or _is_plain_error(message):
                held.append(message)
                return
            has_begun = True
            await send(message)

        await self._app(scope, receive, take)
        if not has_begun:
            await _answer(held, scope)(scope, receive, send)


def _is_plain_error(message: Message) -> bool:
    if message["type"] != "http.response.start" or message["status"] < 400:
        return False
    return Headers(raw=message["headers"]).get("content-type", "").startswith("text/plain")


def _answer(held: list[Message], scope: Scope) -> JSONResponse:
    """The answer in JSON for Serve's own, or for none. It has the request's id as Serve's has."""
    status, headers, body = _error(held)
    request_id = Headers(scope=scope).get(REQUEST_ID)
    return JSONResponse(body, status, headers | ({REQUEST_ID: request_id} if request_id else {}))


def _error(held: list[Message]) -> tuple[int, dict[str, str], dict[str, object]]:
    if not held:
        return to_error_body(Overloaded(LOST_RETRY_S))
    status, headers = held[0]["status"], Headers(raw=held[0]["headers"])
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        wait_s = retry_after_s(headers)
        return to_error_body(Overloaded(LOST_RETRY_S if wait_s is None else wait_s))
    text = b"".join(message.get("body", b"") for message in held).decode(errors="replace")
    _, _, body = to_error_body(AsrError(text))
    body["error"]["code"] = HTTPStatus(status).name.lower()
    body["error"]["type"] = "invalid_request_error" if status < 500 else "server_error"
    return status, {}, body
