"""The requests that the HTTP clients send, and what they read from the answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import h11
import httpx

from clients.attempts import Unreached
from clients.request import Asked, Source, Url, opened, options_from
from deployments.core.errors import AsrError, TimedOut
from deployments.core.formats import from_detailed, from_stream_event
from deployments.core.types import StreamEvent, TranscribeOptions, Transcript
from deployments.core.wire import from_error_body, from_sse_line, retry_after_s
from deployments.proxies import through

Json: TypeAlias = dict[str, Any]
MakeRequest: TypeAlias = Callable[[str], httpx.Request]  # from its id; called for each attempt
Fields: TypeAlias = dict[str, str | list[str]]
Parts: TypeAlias = list[tuple[str, Any]]  # of a multipart form, as httpx takes them

TRANSCRIPTIONS = "/v1/audio/transcriptions"
REQUEST_ID = "X-Request-Id"
SERVES_ROUTES = "/-/routes"  # in Serve's 404, which its proxy sends while it knows no application


def option_fields(options: TranscribeOptions) -> Fields:
    """The fields that requests and jobs share. An option that was not given is not sent."""
    hints = options.hints
    fields: dict[str, str | list[str] | None] = {
        "model": options.model,
        "language": hints.language,
        "prompt": hints.prompt,
        "hotwords[]": list(hints.hotwords),
        "channel": None if options.channel is None else str(options.channel),
        "itn": "true" if options.itn else None,
    }
    return {name: value for name, value in fields.items() if value}


def _form(options: TranscribeOptions, *, is_stream: bool) -> Fields:
    """The fields of a request that is answered at once."""
    form = {"response_format": "detailed_json"} | option_fields(options)
    if options.word_times:
        form["timestamp_granularities[]"] = ["word", "segment"]
    return form | ({"stream": "true"} if is_stream else {})


@contextmanager
def recording_parts(source: Source) -> Iterator[Parts]:
    """The part of a form that is the recording or its URL, while the file is open."""
    if isinstance(source, Url):
        yield [("url", (None, source.url))]
        return
    with opened(source) as (name, file):
        yield [("file", (name, file))]


@dataclass(frozen=True, slots=True)
class Calls:
    """The requests and the error handling that both clients share."""

    http: httpx.Client | httpx.AsyncClient
    timeout_s: float

    @contextmanager
    def transcription(
        self, source: Source, asked: Asked, *, is_stream: bool
    ) -> Iterator[MakeRequest]:
        """A function that makes the request for this recording, while its file is open."""
        fields = _form(options_from(**asked), is_stream=is_stream)
        with recording_parts(source) as parts:
            yield lambda number: self.upload(TRANSCRIPTIONS, {REQUEST_ID: number}, fields, parts)

    def upload(
        self, path: str, headers: dict[str, str], fields: Fields, parts: Parts
    ) -> httpx.Request:
        """A new request. httpx reads the file from its beginning, also for another attempt."""
        return self.http.build_request("POST", path, data=fields, files=parts, headers=headers)

    def models(self, number: str) -> httpx.Request:
        return self.http.build_request("GET", "/v1/models", headers={REQUEST_ID: number})

    def ready(self) -> httpx.Request:
        return self.http.build_request("GET", "/readyz")

    def plain_errors(self) -> AbstractContextManager[None]:
        return _plain_errors(str(self.http.base_url).rstrip("/"), self.timeout_s)


@contextmanager
def _plain_errors(base_url: str, timeout_s: float) -> Iterator[None]:
    """Raises the errors of `core/errors.py` and `Unreached` for those of httpx."""
    try:
        yield
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError) as error:
        raise Unreached(f"Nothing answers at {base_url}: {error}") from error
    except httpx.TimeoutException as error:
        late = TimedOut("answer", timeout_s)
        late.note = _came_through(base_url)
        raise late from error
    except (httpx.LocalProtocolError, h11.LocalProtocolError) as error:  # httpx lets both pass
        raise AsrError(f"The recording changed while it was sent: {error}") from error
    except (httpx.NetworkError, httpx.RemoteProtocolError) as error:
        raise Unreached(f"The connection to {base_url} failed: {error!r}") from error
    except httpx.HTTPError as error:
        raise AsrError(f"{base_url} cannot be asked: {error}") from error


def _came_through(url: httpx.URL | str) -> str:
    """A note that names the proxy, which may have answered itself."""
    proxy = through(url)
    return f"it came{proxy}" if proxy else ""


def body_of(response: httpx.Response) -> Any:
    """The answer's JSON, or its text if it is not JSON."""
    try:
        return response.json()
    except ValueError:
        return response.text


def error_of(response: httpx.Response) -> AsrError:
    """What an answer with an error status stands for."""
    body = body_of(response)
    error = from_error_body(response.status_code, response.headers, body)
    if type(error) is AsrError and _is_of_a_proxy(response.status_code, body, str(error)):
        error = Unreached(error.message, retry_after_s(response.headers))
    if not (isinstance(body, Mapping) and "error" in body):
        error.note = _came_through(response.url)
    return error


def _is_of_a_proxy(status: int, body: object, message: str) -> bool:
    """Whether a proxy in front of the service answered, because the service did not.

    Serve's proxy sends a bare 500 where a replica died, and a 404 until it knows the routes.
    """
    match status:
        case 404:
            return SERVES_ROUTES in message
        case 500:
            return isinstance(body, str)
    return status == 502


def foreign(response: httpx.Response, what: str, error: Exception) -> AsrError:
    """The error for an answer with status 200 that is not this service's."""
    raised = AsrError(f"The server's answer is not {what}: {error!r}")
    raised.note = _came_through(response.url)
    return raised


def transcript_of(response: httpx.Response) -> Transcript:
    try:
        return from_detailed(response.json())
    except (KeyError, TypeError, ValueError) as error:
        raise foreign(response, "a transcript", error) from error


def models_of(response: httpx.Response) -> list[Json]:
    try:
        models: list[Json] = response.json()["data"]
    except (KeyError, TypeError, ValueError) as error:
        raise foreign(response, "a list of models", error) from error
    return models


def readiness_of(response: httpx.Response) -> Json:
    """The body of /readyz. Where another program answers, `reason` says so."""
    body = body_of(response)
    if isinstance(body, dict) and "ready" in body:
        return {**body, "ready": response.is_success}
    return {"ready": False, "reason": str(error_of(response))}


def event_of(line: str) -> StreamEvent | None:
    """The event in one line of the stream, None if it has none. Raises an error that was sent."""
    try:
        body = from_sse_line(line)
        if body is None:
            return None
        if "error" not in body:
            return from_stream_event(body)
    except (KeyError, TypeError, ValueError) as error:
        raise AsrError(f"The server's stream cannot be read: {error!r}") from error
    raise from_error_body(500, {}, body)
