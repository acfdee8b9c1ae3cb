"""Clients of the service over HTTP: `Client`, and `AsyncClient` for asyncio.

The classes only send. Requests and answers are in `messages.py`, and `attempts.py` says what is
sent again.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, closing
from types import TracebackType
from typing import Self, Unpack

import httpx
import stamina

from clients.attempts import Attempts, Unreached
from clients.jobs.http import AsyncJobs, Jobs
from clients.messages import (
    Calls,
    Json,
    MakeRequest,
    error_of,
    event_of,
    models_of,
    readiness_of,
    transcript_of,
)
from clients.request import Asked, Source
from deployments.core.errors import AsrError
from deployments.core.types import Done, StreamEvent, Transcript
from deployments.proxies import AsyncTransport, Transport

DEFAULT_TIMEOUT_S = 600.0  # between two pieces of an answer: an hour of audio may take minutes
DEFAULT_ATTEMPTS = 4
CONNECT_TIMEOUT_S = 5.0


def _limits(timeout_s: float) -> httpx.Timeout:
    return httpx.Timeout(timeout_s, connect=CONNECT_TIMEOUT_S)


def _authorization(api_key: str | None) -> dict[str, str]:
    """The header. Raises AsrError for a text that is no key, which the message does not show."""
    if api_key and not (api_key.isascii() and api_key.isprintable() and " " not in api_key):
        raise AsrError("The API key has characters that no key has.")
    return {"Authorization": f"Bearer {api_key}"} if api_key else {}


def _checked(base_url: str) -> httpx.URL:
    """The URL of the service. Raises AsrError for what is no URL."""
    try:
        return httpx.URL(base_url)
    except httpx.InvalidURL as error:
        raise AsrError(f"{base_url!r} is not a URL: {error}") from error


def _unfinished() -> AsrError:
    return AsrError("The stream ended before its transcript.")


def _not_begun() -> Unreached:
    return Unreached("The stream ended before its first event.")


class Client:
    """The service at `base_url`, such as http://127.0.0.1:8000. Safe to share between threads."""

    def __init__(
        self,
        base_url: str,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        attempts: int = DEFAULT_ATTEMPTS,
        api_key: str | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._http = httpx.Client(
            base_url=_checked(base_url),
            headers=_authorization(api_key),
            timeout=_limits(timeout_s),
            transport=transport or Transport(),
        )
        self._calls, self._attempts = Calls(self._http, timeout_s), attempts
        self._retrying = stamina.RetryingCaller(attempts=attempts, timeout=None)

    @property
    def jobs(self) -> Jobs:
        """The transcription jobs of the service."""
        return Jobs(self._calls, self._answer, self._send)

    def transcribe(self, source: Source, **asked: Unpack[Asked]) -> Transcript:
        """The finished transcript. Raises `core/errors.py`'s errors, and OSError for a file."""
        with self._calls.transcription(source, asked, is_stream=False) as make:
            return transcript_of(self._answer(make))

    def stream(self, source: Source, **asked: Unpack[Asked]) -> Iterator[StreamEvent]:
        """Deltas and progress as they come, then `Done`. Closing it stops the server's work."""
        attempts = Attempts(self._attempts)
        with self._calls.transcription(source, asked, is_stream=True) as make:
            response, events, first = self._retrying(attempts, self._begin, make, attempts)
            event: StreamEvent | None = first
            with closing(response), self._calls.plain_errors():
                while event is not None:
                    yield event
                    if isinstance(event, Done):
                        return
                    event = next(events, None)
        raise _unfinished()

    def models(self) -> list[Json]:
        """The models that are served, as `/v1/models` lists them."""
        return models_of(self._answer(self._calls.models))

    def ready(self) -> Json:
        """Whether a request would be served now (`ready`), and the state of each pool."""
        with self._calls.plain_errors():
            return readiness_of(self._http.send(self._calls.ready()))

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _answer(self, make: MakeRequest, *, has_one_effect: bool = False) -> httpx.Response:
        """The whole answer to a request, after as many attempts as it needs."""
        attempts = Attempts(self._attempts, has_one_effect=has_one_effect)
        return self._retrying(attempts, lambda: self._send(make(attempts.request_id)))

    def _send(self, request: httpx.Request, *, is_stream: bool = False) -> httpx.Response:
        with self._calls.plain_errors():
            response = self._http.send(request, stream=is_stream)
            if response.is_error:
                response.read()
                raise error_of(response)
        return response

    def _begin(
        self, make: MakeRequest, attempts: Attempts
    ) -> tuple[httpx.Response, Iterator[StreamEvent], StreamEvent]:
        """One attempt at a stream, up to its first event, which is apart from the others."""
        response = self._send(make(attempts.request_id), is_stream=True)
        try:
            events = (e for line in response.iter_lines() if (e := event_of(line)) is not None)
            with self._calls.plain_errors():
                first = next(events, None)
            if first is None:
                raise _not_begun()
        except BaseException:
            response.close()
            raise
        return response, events, first


class AsyncClient:
    """`Client` for asyncio. It reads a file in the event loop, one piece at a time."""

    def __init__(
        self,
        base_url: str,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        attempts: int = DEFAULT_ATTEMPTS,
        api_key: str | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._http = httpx.AsyncClient(
            base_url=_checked(base_url),
            headers=_authorization(api_key),
            timeout=_limits(timeout_s),
            transport=transport or AsyncTransport(),
        )
        self._calls, self._attempts = Calls(self._http, timeout_s), attempts
        self._retrying = stamina.AsyncRetryingCaller(attempts=attempts, timeout=None)

    @property
    def jobs(self) -> AsyncJobs:
        """As `Client.jobs`."""
        return AsyncJobs(self._calls, self._answer, self._send)

    async def transcribe(self, source: Source, **asked: Unpack[Asked]) -> Transcript:
        """As `Client.transcribe`."""
        with self._calls.transcription(source, asked, is_stream=False) as make:
            return transcript_of(await self._answer(make))

    async def stream(self, source: Source, **asked: Unpack[Asked]) -> AsyncGenerator[StreamEvent]:
        """As `Client.stream`."""
        attempts = Attempts(self._attempts)
        with self._calls.transcription(source, asked, is_stream=True) as make:
            response, events, first = await self._retrying(attempts, self._begin, make, attempts)
            event: StreamEvent | None = first
            async with aclosing(response), aclosing(events):
                with self._calls.plain_errors():
                    while event is not None:
                        yield event
                        if isinstance(event, Done):
                            return
                        event = await anext(events, None)
        raise _unfinished()

    async def models(self) -> list[Json]:
        """As `Client.models`."""
        return models_of(await self._answer(self._calls.models))

    async def ready(self) -> Json:
        """As `Client.ready`."""
        with self._calls.plain_errors():
            return readiness_of(await self._http.send(self._calls.ready()))

    async def aclose(self) -> None:
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def _answer(self, make: MakeRequest, *, has_one_effect: bool = False) -> httpx.Response:
        attempts = Attempts(self._attempts, has_one_effect=has_one_effect)
        return await self._retrying(attempts, lambda: self._send(make(attempts.request_id)))

    async def _send(self, request: httpx.Request, *, is_stream: bool = False) -> httpx.Response:
        with self._calls.plain_errors():
            response = await self._http.send(request, stream=is_stream)
            if response.is_error:
                await response.aread()
                raise error_of(response)
        return response

    async def _begin(
        self, make: MakeRequest, attempts: Attempts
    ) -> tuple[httpx.Response, AsyncGenerator[StreamEvent], StreamEvent]:
        """As `Client._begin`."""
        response = await self._send(make(attempts.request_id), is_stream=True)
        events = _events(response)
        try:
            with self._calls.plain_errors():
                first = await anext(events, None)
            if first is None:
                raise _not_begun()
        except BaseException:
            await response.aclose()
            raise
        return response, events, first


async def _events(response: httpx.Response) -> AsyncGenerator[StreamEvent]:
    async for line in response.aiter_lines():
        event = event_of(line)
        if event is not None:
            yield event
