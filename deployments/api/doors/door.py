"""The middleware before all endpoints: it lets a request in, bounds it, charges it and notes it.

A request that may not come in is answered before anything of its body is read.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any
from uuid import uuid4

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Match, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments.api.doors import rules
from deployments.api.doors.audit import Visit
from deployments.api.doors.desk import Desk
from deployments.api.doors.keyring import Keyring
from deployments.api.failures import as_asr_error
from deployments.api.jobs.dashscope_json import error_json
from deployments.config import Limits
from deployments.core.errors import Forbidden, Unauthorized, UploadTooLarge
from deployments.core.types import Done, StreamEvent, Transcript
from deployments.core.wire import to_error_body
from deployments.keys.messages import Left
from deployments.keys.records import ANYONE, NOBODY, Caller, Key, caller_of

BYTES_PER_MB = 1_000_000
FORM_SLACK_BYTES = 1_000_000  # of a form around its recording
REQUEST_ID = "x-request-id"
CHALLENGE = 'Bearer realm="paraformer-cluster"'


class Door:
    """`keys` is the handle of the `Keys` deployment. None: everybody comes in."""

    def __init__(self, keys: Any = None, *, session_hours: float = 12.0) -> None:
        self._keyring = Keyring(keys) if keys is not None else None
        self._desk = Desk(self._keyring, session_hours)

    def routes(self) -> list[Route]:
        """The endpoints that are about keys."""
        return self._desk.routes()

    def before(self, app: ASGIApp, routes: Sequence[BaseRoute]) -> ASGIApp:
        """The application behind this door."""

        async def enter(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http":
                await self._enter(app, routes, scope, receive, send)
            elif scope["type"] == "lifespan" or self._keyring is None:
                await app(scope, receive, send)
            else:  # no endpoint takes another protocol
                await send({"type": "websocket.close", "code": 1008})

        return enter

    async def _enter(
        self, app: ASGIApp, routes: Sequence[BaseRoute], scope: Scope, receive: Receive, send: Send
    ) -> None:
        headers = Headers(scope=scope)
        visit = Visit(scope["method"], headers.get(REQUEST_ID, ""))
        passage = _Passage(self._keyring, visit, receive, send)
        try:
            try:
                await passage.open(scope, headers)
            except Exception as error:
                answer = _refusal(error, headers, rules.path_of(scope))
                await answer(scope, receive, passage.send)
                return
            state = {**scope.get("state", {}), "caller": visit.caller, "visit": visit}
            await app({**scope, "state": state}, passage.receive, passage.send)
        finally:
            try:
                await passage.end()
            finally:
                if rules.path_of(scope) not in rules.PROBES:
                    visit.write(_pattern(routes, scope))


class _Passage:
    """One request on its way through the door."""

    def __init__(self, keyring: Keyring | None, visit: Visit, receive: Receive, send: Send) -> None:
        self._keyring, self._visit = keyring, visit
        self._receive, self._send = receive, send
        self._key: Key | None = None
        self._permit = ""

    async def open(self, scope: Scope, headers: Headers) -> None:
        """Finds out who it is, and whether they may. Raises an AsrError, or what Ray raises."""
        if self._keyring is None:
            self._visit.caller = ANYONE
            return
        method, path = scope["method"], rules.path_of(scope)
        is_open = rules.is_open(path)
        self._visit.caller = NOBODY
        shown = rules.shown(headers)
        if is_open and not (shown.key or shown.session):
            return
        await self._keyring.ready()
        try:
            self._key = self._keyring.key_of(shown)
        except Unauthorized:
            if is_open:
                return
            raise
        if shown.session and method not in rules.SAFE and not rules.is_same_origin(headers):
            raise Forbidden("A session may be used by the service's own pages only.")
        caller = self._visit.caller = caller_of(self._key)
        scope_name = rules.scope_of(path)
        if scope_name is not None and not caller.may(scope_name):
            raise Forbidden(f"This key has no scope {scope_name!r}.")
        n_bytes = rules.announced_bytes(headers)
        self._check_size(n_bytes)
        if rules.takes_work(method, path) and self._key.limits.needs_permits:
            self._permit = await self._keyring.enter(self._key, n_bytes)

    async def receive(self) -> Message:
        message = await self._receive()
        self._visit.n_bytes += len(message.get("body", b""))
        self._check_size(self._visit.n_bytes)
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._visit.status = message["status"]
        elif not message.get("more_body"):
            await self.end()  # first: the client's next request must not meet this one's permit
        await self._send(message)

    async def end(self) -> None:
        """Gives the permit back, and charges what was heard. Does nothing a second time."""
        key, self._key = self._key, None
        if key is None or self._keyring is None:
            return
        visit = self._visit
        permit = self._permit or uuid4().hex
        await self._keyring.leave(Left(permit, key.id, visit.model, visit.audio_ms))

    def _check_size(self, n_bytes: int) -> None:
        limit_mb = self._visit.caller.max_upload_mb
        if limit_mb is not None and n_bytes > limit_mb * BYTES_PER_MB + FORM_SLACK_BYTES:
            raise UploadTooLarge(limit_mb)


def who(request: Request) -> Caller:
    """Who sent the request."""
    caller: Caller = request.state.caller
    return caller


def within_limits(limits: Limits, request: Request) -> Limits:
    """The limits of the service, and those of the key where they are narrower."""
    own = who(request).max_upload_mb
    if own is None or own >= limits.max_upload_mb:
        return limits
    return limits.model_copy(update={"max_upload_mb": own})


def charge(request: Request, transcript: Transcript) -> Transcript:
    """The transcript, whose audio the caller is charged for."""
    visit: Visit = request.state.visit
    visit.model, visit.audio_ms = transcript.model, transcript.duration_ms
    return transcript


async def charged(
    request: Request, events: AsyncGenerator[StreamEvent]
) -> AsyncGenerator[StreamEvent]:
    """The events. The caller is charged with the last one."""
    async with aclosing(events):
        async for event in events:
            if isinstance(event, Done):
                charge(request, event.transcript)
            yield event


def _refusal(error: Exception, headers: Headers, path: str) -> Response:
    write = error_json if path.startswith(rules.DASHSCOPE_PREFIX) else to_error_body
    status, added, body = write(as_asr_error(error))
    if status == 401:
        added["WWW-Authenticate"] = CHALLENGE
    if rules.has_body(headers):
        added["Connection"] = "close"  # else the proxy would read the body to its end
    return JSONResponse(body, status, added)


def _pattern(routes: Sequence[BaseRoute], scope: Scope) -> str:
    """The pattern of the path, such as /v1/models/{name}. "" where there is none."""
    for route in routes:
        match, _ = route.matches(scope)
        if match is not Match.NONE:
            return str(getattr(route, "path", ""))
    return ""
