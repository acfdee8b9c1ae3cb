"""The HTTP front: limits, fields, formats and the error table; no audio maths."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

from ray import serve
from ray.exceptions import RayActorError, RayTaskError
from ray.serve.exceptions import BackPressureError
from ray.serve.handle import DeploymentHandle
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from deployments.config import Limits
from deployments.core.errors import AsrError, BadRequest, EngineFailed, Overloaded, TimedOut
from deployments.core.formats import FORMATS, stream_event
from deployments.core.types import Done, EngineInfo, Event, Transcript
from deployments.core.wire import to_error_body, to_sse
from deployments.form import Form, read_form
from deployments.openapi import document

logger = logging.getLogger("ray.serve")

HEALTH_TIMEOUT_S = 5.0
BUSY_RETRY_S = 5.0


@serve.ingress()
class Ingress:
    """Serve's proxy hands every HTTP request to the Starlette application of this replica."""

    def __init__(
        self,
        router: DeploymentHandle[Any],
        engine: EngineInfo,
        limits: Limits,
    ) -> None:
        self._front = Front(router, engine, limits)

    def __serve_build_asgi_app__(self) -> Starlette:
        return create_app(self._front)


class Front:
    """The endpoints. `router` is the Router's handle, or anything that answers like one."""

    def __init__(self, router: Any, engine: EngineInfo, limits: Limits) -> None:
        self._router, self._engine, self._limits = router, engine, limits

    async def transcribe(self, request: Request) -> Response:
        try:
            async with asyncio.timeout(self._limits.request_timeout_s):
                form = await read_form(request, self._limits, self._engine)
        except TimeoutError:
            raise TimedOut("upload", self._limits.request_timeout_s) from None
        headers = _warnings(form.without_effect)
        if form.stream:
            events = self._events(form)
            first = await anext(events)  # an early error is an HTTP status, not a broken stream
            sent = _sse(first, events, form)
            return StreamingResponse(sent, media_type="text/event-stream", headers=headers)
        transcript = await self._answer(form)
        headers = _warnings((*form.without_effect, *_missing(transcript)))
        media_type, render = FORMATS[form.response_format]
        body = render(transcript, form.granularities)
        return Response(body, media_type=media_type, headers=headers)

    async def models(self, request: Request) -> Response:
        models = await asyncio.wait_for(self._router.models.remote(), HEALTH_TIMEOUT_S)
        return JSONResponse({"object": "list", "data": models})

    async def healthz(self, request: Request) -> Response:
        return JSONResponse({"status": "alive"})

    async def readyz(self, request: Request) -> Response:
        """200 once a request would be served; the body says what each stage and pool has."""
        try:
            ready = await asyncio.wait_for(self._router.ready.remote(), HEALTH_TIMEOUT_S)
        except Exception as error:
            ready = {"ready": False, "reason": str(as_asr_error(error))}
        return JSONResponse(ready, 200 if ready["ready"] else 503)

    async def openapi(self, request: Request) -> Response:
        return JSONResponse(document(self._limits))

    async def _answer(self, form: Form) -> Transcript:
        response = self._router.transcribe.remote(form.upload, form.options)
        try:
            async with asyncio.timeout(self._limits.request_timeout_s):
                transcript: Transcript = await response
        except TimeoutError:
            raise TimedOut("request", self._limits.request_timeout_s) from None
        finally:
            response.cancel()  # nothing to do where it has answered; else its client has gone
        return transcript

    async def _events(self, form: Form) -> AsyncGenerator[Event]:
        stream = self._router.options(stream=True).stream
        events = stream.remote(form.upload, form.options)
        coming = aiter(events)
        limit_s = self._limits.request_timeout_s
        deadline_s = time.monotonic() + limit_s
        try:
            while True:
                # Per event: Starlette reads a stream in another task than the one that began it.
                left_s = deadline_s - time.monotonic()
                event: Event | None = await asyncio.wait_for(anext(coming, None), left_s)
                if event is None:
                    return
                yield event
        except TimeoutError:
            raise TimedOut("request", limit_s) from None
        finally:
            events.cancel()


def _warnings(warnings: Sequence[str]) -> dict[str, str]:
    return {"warnings": ", ".join(warnings)} if warnings else {}


def _missing(transcript: Transcript) -> list[str]:
    """What no format but detailed_json would tell: the segments of which there is no text."""
    missing = [str(segment.index) for segment in transcript.segments if segment.error]
    return [f"no text for segments {' '.join(missing)}"] if missing else []


async def _sse(first: Event, events: AsyncGenerator[Event], form: Form) -> AsyncGenerator[str]:
    """Server-sent events; an error after the first event is an event of its own, then the end."""
    detailed = form.response_format == "detailed_json"
    async with aclosing(events):
        event: Event | None = first
        while event is not None:
            if (sent := stream_event(event, is_detailed=detailed)) is not None:
                yield to_sse(sent)
            if isinstance(event, Done):
                break
            try:
                event = await anext(events, None)
            except Exception as error:
                _, _, body = to_error_body(as_asr_error(error))
                yield to_sse({"type": "error", **body})
                return
    yield "data: [DONE]\n\n"


def create_app(front: Front) -> Starlette:
    """The Starlette application round the endpoints."""
    return Starlette(
        routes=[
            Route("/v1/audio/transcriptions", front.transcribe, methods=["POST"]),
            Route("/v1/models", front.models),
            Route("/healthz", front.healthz),
            Route("/readyz", front.readyz),
            Route("/openapi.json", front.openapi),
        ],
        exception_handlers={
            HTTPException: _http_error,
            ClientDisconnect: _gone,
            AsrError: _error,
            RayTaskError: _error,
            RayActorError: _error,
            BackPressureError: _error,
            Exception: _error,
        },
    )


def as_asr_error(error: Exception) -> AsrError:
    """The error a client may see. What is not ours is logged and becomes a plain sentence."""
    if isinstance(error, RayTaskError) and isinstance(error.cause, AsrError):
        return error.cause
    if isinstance(error, AsrError):
        return error
    if isinstance(error, BackPressureError | RayActorError | TimeoutError):
        logger.warning("A stage was not available: %s", type(error).__name__)
        return Overloaded(BUSY_RETRY_S)
    logger.error("An unexpected error.", exc_info=error)
    return EngineFailed("The service failed on this request. Its log has the details.")


async def _error(request: Request, error: Exception) -> Response:
    status, headers, body = to_error_body(as_asr_error(error))
    return JSONResponse(body, status, headers)


async def _gone(request: Request, error: Exception) -> Response:
    """The client left while it was sending: nobody reads this."""
    return Response(status_code=400)


async def _http_error(request: Request, error: Exception) -> Response:
    """Starlette's own: no such path, no such method."""
    assert isinstance(error, HTTPException)
    _, _, body = to_error_body(BadRequest(str(error.detail)))
    body["error"]["code"] = str(error.detail).lower().replace(" ", "_")
    return JSONResponse(body, error.status_code, error.headers)
