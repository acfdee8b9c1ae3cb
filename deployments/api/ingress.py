"""The HTTP front: endpoints, timeouts, and every error as an answer by `STATUS` of core/wire.py."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

from ray import serve
from ray.exceptions import RayTaskError
from ray.serve.handle import DeploymentHandle
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from deployments.api import warned
from deployments.api.application import App
from deployments.api.doors.door import Door, charge, charged, who, within_limits
from deployments.api.failures import BUSY_RETRY_S, HANDLERS, as_asr_error
from deployments.api.form import Form, read_form
from deployments.api.jobs.endpoints import job_routes
from deployments.api.openapi import document
from deployments.api.page import files
from deployments.config import Limits
from deployments.core.errors import Draining, TimedOut
from deployments.core.formats import FORMATS, WriteEvent
from deployments.core.request_id import new_request_id
from deployments.core.types import (
    Done,
    EngineInfo,
    StoredUpload,
    StreamEvent,
    TranscribeOptions,
    Transcript,
    Upload,
)
from deployments.core.wire import to_error_body, to_sse
from deployments.request.calls import directly, for_arrays
from deployments.request.deadline import within
from deployments.request.fetching import Fetcher, fetcher_for
from deployments.request.stored import NotHere
from deployments.service_settings import Fetch, JobsSettings, Storage

HEALTH_TIMEOUT_S = 5.0


@serve.ingress()
class Ingress:
    """Serve's proxy hands every HTTP request to the Starlette application of this replica."""

    def __init__(
        self,
        router: DeploymentHandle[Any],
        engine: EngineInfo,
        limits: Limits,
        cors_origins: Sequence[str] = (),
        fetch: Fetch | None = None,
        jobs: DeploymentHandle[Any] | None = None,
        jobs_settings: JobsSettings | None = None,
        storage: Storage | None = None,
        keys: DeploymentHandle[Any] | None = None,
        session_hours: float = 0.0,
    ) -> None:
        self._cors_origins = cors_origins
        self._door = Door(directly(keys), session_hours=session_hours)
        nearby = DeploymentHandle[Any](router.deployment_name, router.app_name)
        # Serve has no public name for this (Ray 2.60).
        nearby._init(_prefer_local_routing=True)  # type: ignore[no-untyped-call]
        fetcher = fetcher_for(fetch, limits)
        self._front = Front(router, engine, limits, nearby=nearby, fetcher=fetcher)
        self._routes = job_routes(
            jobs, engine, limits, fetch or Fetch(), jobs_settings or JobsSettings(), storage
        )

    def __serve_build_asgi_app__(self) -> Starlette:
        return create_app(self._front, self._cors_origins, self._door, self._routes)


class Front:
    """The endpoints. `router` is the handle of the Router, or anything that answers like it.

    `nearby` is another handle of it, which prefers the routers of this node.
    """

    def __init__(
        self,
        router: Any,
        engine: EngineInfo,
        limits: Limits,
        *,
        nearby: Any = None,
        fetcher: Fetcher | None = None,
    ) -> None:
        self._router, self._nearby = router, nearby or router
        self._engine, self._limits, self._fetcher = engine, limits, fetcher
        self._draining: Draining | None = None  # once the router refused a request with it

    async def transcribe(self, request: Request) -> Response:
        if self._draining:
            raise self._draining  # before the upload is read
        try:
            return await self._transcribe(request, new_request_id())
        except Draining as error:  # by gRPC as it is, else as a RayTaskError of this kind too
            self._draining = error.cause if isinstance(error, RayTaskError) else error
            raise

    async def _transcribe(self, request: Request, request_id: str) -> Response:
        try:
            async with asyncio.timeout(self._limits.request_timeout_s):
                limits = within_limits(self._limits, request)
                form = await read_form(request, limits, self._engine, self._fetcher)
        except TimeoutError:
            raise TimedOut("upload", self._limits.request_timeout_s) from None
        headers = warned.header(form.without_effect)
        if form.stream:
            events = charged(request, self._events(form, request_id))
            first = await anext(events)  # an early error is an HTTP status, not a broken stream
            write_event = FORMATS[form.response_format].write_event
            assert write_event is not None  # `read_form` refuses a stream of other formats
            sent = _sse(first, events, write_event)
            return StreamingResponse(sent, media_type="text/event-stream", headers=headers)
        transcript = charge(request, await self._answer(form, request_id))
        headers = warned.header(
            (*form.without_effect, *warned.missing(transcript), *warned.of_recording(transcript))
        )
        chosen = FORMATS[form.response_format]
        body = chosen.render(transcript, form.granularities)
        return Response(body, media_type=chosen.media_type, headers=headers)

    async def models(self, request: Request) -> Response:
        models = await asyncio.wait_for(self._router.models.remote(), HEALTH_TIMEOUT_S)
        return JSONResponse({"object": "list", "data": models})

    async def model(self, request: Request) -> Response:
        asked = self._router.model.remote(request.path_params["name"])
        return JSONResponse(await asyncio.wait_for(asked, HEALTH_TIMEOUT_S))

    async def healthz(self, request: Request) -> Response:
        return JSONResponse({"status": "alive"})

    async def readyz(self, request: Request) -> Response:
        """200 once a request would be served. The body tells what each stage and pool has."""
        try:
            ready = await asyncio.wait_for(self._router.ready.remote(), HEALTH_TIMEOUT_S)
        except Exception as error:
            ready = {"ready": False, "reason": str(as_asr_error(error))}
        if not who(request).may("operate"):
            ready = {name: ready[name] for name in ("ready", "reason") if name in ready}
        if not ready["ready"]:
            return JSONResponse(ready, 503, {"Retry-After": str(round(BUSY_RETRY_S))})
        return JSONResponse(ready)

    async def openapi(self, request: Request) -> Response:
        return JSONResponse(document(self._limits, fetches=self._fetcher is not None))

    async def _answer(self, form: Form, request_id: str) -> Transcript:
        with form.recording as recording:
            try:
                async with asyncio.timeout(self._limits.request_timeout_s):
                    try:
                        return await self._transcribed(recording.sent, form.options, request_id)
                    except NotHere:
                        return await self._transcribed(recording.data, form.options, request_id)
            except TimeoutError:
                raise TimedOut("request", self._limits.request_timeout_s) from None

    async def _transcribed(
        self, upload: Upload | StoredUpload, options: TranscribeOptions, request_id: str
    ) -> Transcript:
        response = self._handle(upload).transcribe.remote(upload, options, request_id)
        try:
            transcript: Transcript = await response
        finally:
            response.cancel()  # no effect if the router has answered; else the client has gone
        return transcript

    def _events(self, form: Form, request_id: str) -> AsyncGenerator[StreamEvent]:
        """The router's events. Raises TimedOut at the request's timeout."""
        return within(self._limits.request_timeout_s, self._from_router(form, request_id))

    async def _from_router(self, form: Form, request_id: str) -> AsyncGenerator[StreamEvent]:
        with form.recording as recording:
            try:
                sent = self._streamed(recording.sent, form.options, request_id)
                async with aclosing(sent) as events:
                    async for event in events:
                        yield event
            except NotHere:  # raised before the first event
                sent = self._streamed(recording.data, form.options, request_id)
                async with aclosing(sent) as events:
                    async for event in events:
                        yield event

    async def _streamed(
        self, upload: Upload | StoredUpload, options: TranscribeOptions, request_id: str
    ) -> AsyncGenerator[StreamEvent]:
        events = (
            self._handle(upload).options(stream=True).stream.remote(upload, options, request_id)
        )
        try:
            async for event in events:
                yield event
        finally:
            events.cancel()  # no effect if the router has answered; else the client has gone

    def _handle(self, upload: Upload | StoredUpload) -> Any:
        """The routers of this node can map a file. Bytes go to whichever router is least busy."""
        if isinstance(upload, StoredUpload):
            return self._nearby
        return for_arrays(self._router, upload)


async def _sse(
    first: StreamEvent, events: AsyncGenerator[StreamEvent], write_event: WriteEvent
) -> AsyncGenerator[str]:
    """Server-sent events. An error after the first event is sent as the last event."""
    async with aclosing(events):
        event: StreamEvent | None = first
        while event is not None:
            if (sent := write_event(event)) is not None:
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


def create_app(
    front: Front,
    cors_origins: Sequence[str] = (),
    door: Door | None = None,
    more: Sequence[Route] = (),
) -> Starlette:
    """The Starlette application with the endpoints, and with `more` of them.

    Without a door everybody comes in.
    """
    door = door or Door()
    return App(
        cors_origins,
        door,
        routes=[
            *files.ROUTES,
            *door.routes(),
            Route("/v1/audio/transcriptions", front.transcribe, methods=["POST"]),
            Route("/v1/models", front.models),
            Route("/v1/models/{name:path}", front.model),
            Route("/healthz", front.healthz),
            Route("/readyz", front.readyz),
            Route("/openapi.json", front.openapi),
            *more,
        ],
        exception_handlers=HANDLERS,
    )
