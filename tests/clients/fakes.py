"""A fake Router, to be used behind the real HTTP front or behind a fake Ray handle."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from dataclasses import replace
from typing import Any

import httpx
from ray.exceptions import RayTaskError

from deployments.api.ingress import Front, create_app
from deployments.api.jobs.endpoints import job_routes
from deployments.config import Limits
from deployments.core.errors import AsrError
from deployments.core.types import (
    Delta,
    Done,
    EngineInfo,
    Progress,
    StreamEvent,
    TranscribeOptions,
    Transcript,
    Upload,
)
from deployments.service_settings import Fetch, JobsSettings
from tests.core.test_wire import ERRORS
from tests.core.transcripts import PARAFORMER

ENGINE = EngineInfo("paraformer-zh", "cpu", "fp32", True, False, 30_000, ("prompt", "hotwords"))


def failing(number: int, *, after_events: int = 0) -> bytes:
    """An upload for which the Router raises `ERRORS[number]`, in a stream after some events."""
    return f"fail {number} {after_events}".encode()


class FakeRouter:
    """Answers with the example, made longer by a millisecond for each byte of the upload."""

    def __init__(self) -> None:
        self.seen: list[TranscribeOptions] = []
        self.is_ready = True

    def transcribe(
        self, upload: Upload, options: TranscribeOptions, request: str | None = None
    ) -> Transcript:
        return list(self.stream(upload, options))[-1].transcript  # type: ignore[union-attr]

    def stream(
        self, upload: Upload, options: TranscribeOptions, request: str | None = None
    ) -> Iterator[StreamEvent]:
        self.seen.append(options)
        transcript = replace(PARAFORMER, duration_ms=PARAFORMER.duration_ms + len(upload))
        events: list[StreamEvent] = [
            Delta("今天天气很好，我们去公园。"),
            Progress(3_200, 5_200),
            Delta("你 hello world 吗？"),
            Progress(5_200, 5_200),
            Done(transcript),
        ]
        word, *numbers = bytes(upload).split()[:3]
        if word == b"fail":
            yield from events[: int(numbers[1])]
            raise ERRORS[int(numbers[0])][0]
        yield from events

    def models(self) -> list[dict[str, Any]]:
        pools = {"cpu": {"device": "cpu", "dtype": "fp32"}}
        return [{"id": "paraformer-zh", "languages": ["zh"], "pools": pools}]

    def ready(self) -> dict[str, Any]:
        return {
            "ready": self.is_ready,
            "stages": {"vad": int(self.is_ready), "punctuation": 1},
            "pools": {"cpu": {"replicas": 1, "outstanding_audio_s": 0.0}},
        }


def as_ray_raises(error: AsrError) -> Exception:
    """The error as Ray raises it from another process: an `AsrError` whose text is a traceback."""
    wrapped = RayTaskError("transcribe", "pid=1, ip=10.0.0.1", error)  # type: ignore[no-untyped-call]
    raised: Exception = wrapped.as_instanceof_cause()  # type: ignore[no-untyped-call]
    return raised


class FakeResponse:
    """The result of a handle's `remote`. It raises errors as Ray wraps them."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self._work = work
        self.was_cancelled = False

    def cancel(self) -> None:
        self.was_cancelled = True

    def result(self, *, timeout_s: float | None = None) -> Any:
        assert timeout_s is not None
        return next(self._wrapped(iter([self._work])))

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._later().__await__()

    async def _later(self) -> Any:
        return self.result(timeout_s=1.0)

    def _wrapped(self, items: Iterator[Any]) -> Iterator[Any]:
        try:
            for item in items:
                yield item() if callable(item) else item
        except AsrError as error:
            raise as_ray_raises(error) from None


class FakeStream(FakeResponse):
    """The result of a handle's `remote` for a generator."""

    def __iter__(self) -> Iterator[Any]:
        return self._wrapped(self._work())

    async def __aiter__(self) -> AsyncIterator[Any]:
        for item in self:
            yield item


class FakeMethod:
    def __init__(self, method: Callable[..., Any], kind: type[FakeResponse]) -> None:
        self._method, self._kind = method, kind
        self.responses: list[FakeResponse] = []

    def remote(self, *arguments: Any) -> FakeResponse:
        self.responses.append(self._kind(lambda: self._method(*arguments)))
        return self.responses[-1]


class FakeHandle:
    """The part of the Router's DeploymentHandle that the clients and the front use."""

    def __init__(self, router: FakeRouter) -> None:
        self.transcribe = FakeMethod(router.transcribe, FakeResponse)
        self.stream = FakeMethod(router.stream, FakeStream)
        self.models = FakeMethod(router.models, FakeResponse)
        self.ready = FakeMethod(router.ready, FakeResponse)

    def options(self, *, stream: bool = False, _by_reference: bool = True) -> FakeHandle:
        return self


class AsgiTransport(httpx.AsyncBaseTransport, httpx.BaseTransport):
    """The real HTTP front over a fake Router, without jobs, for both kinds of client."""

    def __init__(self, router: FakeRouter) -> None:
        front = Front(FakeHandle(router), ENGINE, Limits())
        without = job_routes(None, ENGINE, Limits(), Fetch(), JobsSettings(), None)
        app = create_app(front, more=without)
        self._asgi = httpx.ASGITransport(app, raise_app_exceptions=False)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await self._asgi.handle_async_request(request)
        return httpx.Response(
            response.status_code, headers=response.headers, content=await response.aread()
        )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return asyncio.run(self.handle_async_request(request))


def run(awaitable: Awaitable[Any]) -> Any:
    async def wait() -> Any:
        return await awaitable

    return asyncio.run(wait())
