"""The service over HTTP: `Client` and `AsyncClient`, the same but for the awaits.

Requests are made and answers are read by the functions at the top; the classes only send. A
request is sent again when nothing answered or when the service is busy (503), never otherwise.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AbstractContextManager, aclosing, closing, contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, BinaryIO, Self, TypeAlias, Unpack

import httpx
import stamina

from clients.request import Asked, Source, opened, options_from
from deployments.core.errors import AsrError, ModelUnavailable, Overloaded, TimedOut
from deployments.core.formats import from_detailed, from_stream_event
from deployments.core.types import Done, Event, TranscribeOptions, Transcript
from deployments.core.wire import from_error_body, from_sse_line

Json: TypeAlias = dict[str, Any]
MakeRequest: TypeAlias = Callable[[], httpx.Request]  # a new one for each try

TRANSCRIPTIONS = "/v1/audio/transcriptions"
DEFAULT_TIMEOUT_S = 600.0  # between two pieces of an answer; an hour of audio takes minutes
DEFAULT_ATTEMPTS = 4
CONNECT_TIMEOUT_S = 5.0
MAX_RETRY_WAIT_S = 60.0  # a service that wants us to wait longer is reported as busy


def _form(options: TranscribeOptions, *, is_stream: bool) -> dict[str, str | list[str]]:
    """The fields of the form; what was not asked for is not sent."""
    hints = options.hints
    fields: dict[str, str | list[str] | None] = {
        "response_format": "detailed_json",
        "model": options.model,
        "language": hints.language,
        "prompt": hints.prompt,
        "hotwords[]": list(hints.hotwords),
        "channel": None if options.channel is None else str(options.channel),
        "timestamp_granularities[]": ["word", "segment"] if options.word_times else None,
        "itn": "true" if options.itn else None,
        "stream": "true" if is_stream else None,
    }
    return {name: value for name, value in fields.items() if value}


def _request(
    http: httpx.Client | httpx.AsyncClient,
    name: str,
    file: BinaryIO,
    options: TranscribeOptions,
    *,
    is_stream: bool,
) -> httpx.Request:
    """A new request; httpx reads the file from its beginning, whatever was read before."""
    fields = _form(options, is_stream=is_stream)
    return http.build_request("POST", TRANSCRIPTIONS, data=fields, files={"file": (name, file)})


def _body(response: httpx.Response) -> Any:
    """The answer's JSON, or its text where it has none."""
    try:
        return response.json()
    except ValueError:
        return response.text


def _error(response: httpx.Response) -> AsrError:
    return from_error_body(response.status_code, response.headers, _body(response))


def _transcript(response: httpx.Response) -> Transcript:
    try:
        return from_detailed(response.json())
    except (KeyError, TypeError, ValueError) as error:
        raise AsrError(f"The server's answer is not a transcript: {error!r}") from error


def _event(line: str) -> Event | None:
    """The event of one line of the stream; raises what the server sent as an error."""
    try:
        body = from_sse_line(line)
        if body is None:
            return None
        if "error" not in body:
            return from_stream_event(body)
    except (KeyError, TypeError, ValueError) as error:
        raise AsrError(f"The server's stream cannot be read: {error!r}") from error
    raise from_error_body(500, {}, body)


def _is_worth_another_try(error: Exception) -> bool | float:
    """For stamina: False, True (it waits by its own back-off), or the seconds to wait."""
    match error:
        case httpx.ConnectError() | httpx.ConnectTimeout() | ModelUnavailable():
            return True
        case Overloaded() if error.retry_after_s <= MAX_RETRY_WAIT_S:
            return error.retry_after_s
    return False


@contextmanager
def _plain_errors(base_url: str, timeout_s: float) -> Iterator[None]:
    """The transport's errors as ours."""
    try:
        yield
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        raise AsrError(f"Nothing answers at {base_url}: {error}") from error
    except httpx.TimeoutException as error:
        raise TimedOut("answer", timeout_s) from error
    except httpx.HTTPError as error:
        raise AsrError(f"The connection to {base_url} failed: {error!r}") from error


def _models(response: httpx.Response) -> list[Json]:
    models: list[Json] = response.json()["data"]
    return models


def _readiness(response: httpx.Response) -> Json:
    body = _body(response)
    return {**(body if isinstance(body, dict) else {}), "ready": response.is_success}


@dataclass(frozen=True, slots=True)
class _Calls:
    """What both clients ask, and how they tell what goes wrong; they differ in how they send."""

    http: httpx.Client | httpx.AsyncClient
    timeout_s: float

    @contextmanager
    def transcription(
        self, source: Source, asked: Asked, *, is_stream: bool
    ) -> Iterator[MakeRequest]:
        """A maker of requests for this recording, while its file is open."""
        options = options_from(**asked)
        with self.plain_errors(), opened(source) as (name, file):
            yield lambda: _request(self.http, name, file, options, is_stream=is_stream)

    def models(self) -> httpx.Request:
        return self.http.build_request("GET", "/v1/models")

    def ready(self) -> httpx.Request:
        return self.http.build_request("GET", "/readyz")

    def plain_errors(self) -> AbstractContextManager[None]:
        return _plain_errors(str(self.http.base_url).rstrip("/"), self.timeout_s)


def _limits(timeout_s: float) -> httpx.Timeout:
    return httpx.Timeout(timeout_s, connect=CONNECT_TIMEOUT_S)


def _unfinished() -> AsrError:
    return AsrError("The stream ended before its transcript.")


class Client:
    """The service at `base_url`, such as http://127.0.0.1:8000. Safe to share between threads."""

    def __init__(
        self,
        base_url: str,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        attempts: int = DEFAULT_ATTEMPTS,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._http = httpx.Client(
            base_url=base_url, timeout=_limits(timeout_s), transport=transport
        )
        self._calls = _Calls(self._http, timeout_s)
        retrying = stamina.RetryingCaller(attempts=attempts, timeout=None)
        self._retry = retrying.on(_is_worth_another_try)

    def transcribe(self, source: Source, **asked: Unpack[Asked]) -> Transcript:
        """The finished transcript. Raises the errors of `core/errors.py`, OSError for a file."""
        with self._calls.transcription(source, asked, is_stream=False) as make:
            response = self._retry(self._send, make)
        return _transcript(response)

    def stream(self, source: Source, **asked: Unpack[Asked]) -> Iterator[Event]:
        """Deltas and progress as they come, `Done` last. Closing it ends the work at the server."""
        with self._calls.transcription(source, asked, is_stream=True) as make:
            response = self._retry(self._send, make, is_stream=True)
            with closing(response):
                for line in response.iter_lines():
                    event = _event(line)
                    if event is not None:
                        yield event
                    if isinstance(event, Done):
                        return
        raise _unfinished()

    def models(self) -> list[Json]:
        """The models served, as `/v1/models` lists them."""
        with self._calls.plain_errors():
            return _models(self._retry(self._send, self._calls.models))

    def ready(self) -> Json:
        """Whether a request would be served now (`ready`), and what each pool has."""
        with self._calls.plain_errors():
            return _readiness(self._http.send(self._calls.ready()))

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

    def _send(self, make: MakeRequest, *, is_stream: bool = False) -> httpx.Response:
        response = self._http.send(make(), stream=is_stream)
        if response.is_error:
            response.read()
            raise _error(response)
        return response


class AsyncClient:
    """`Client` for asyncio. A file is read in the event loop, a piece at a time."""

    def __init__(
        self,
        base_url: str,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        attempts: int = DEFAULT_ATTEMPTS,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._http = httpx.AsyncClient(
            base_url=base_url, timeout=_limits(timeout_s), transport=transport
        )
        self._calls = _Calls(self._http, timeout_s)
        retrying = stamina.AsyncRetryingCaller(attempts=attempts, timeout=None)
        self._retry = retrying.on(_is_worth_another_try)

    async def transcribe(self, source: Source, **asked: Unpack[Asked]) -> Transcript:
        """As `Client.transcribe`."""
        with self._calls.transcription(source, asked, is_stream=False) as make:
            response = await self._retry(self._send, make)
        return _transcript(response)

    async def stream(self, source: Source, **asked: Unpack[Asked]) -> AsyncGenerator[Event]:
        """As `Client.stream`."""
        with self._calls.transcription(source, asked, is_stream=True) as make:
            response = await self._retry(self._send, make, is_stream=True)
            async with aclosing(response):
                async for line in response.aiter_lines():
                    event = _event(line)
                    if event is not None:
                        yield event
                    if isinstance(event, Done):
                        return
        raise _unfinished()

    async def models(self) -> list[Json]:
        """As `Client.models`."""
        with self._calls.plain_errors():
            return _models(await self._retry(self._send, self._calls.models))

    async def ready(self) -> Json:
        """As `Client.ready`."""
        with self._calls.plain_errors():
            return _readiness(await self._http.send(self._calls.ready()))

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

    async def _send(self, make: MakeRequest, *, is_stream: bool = False) -> httpx.Response:
        response = await self._http.send(make(), stream=is_stream)
        if response.is_error:
            await response.aread()
            raise _error(response)
        return response
