"""Errors and streamed events as they are sent over HTTP, for the server and for the clients.

The body of an error is OpenAI's, `{"error": {"message", "type", "param", "code"}}`. Our own key
`detail` has the arguments of the exception, so that a client can raise what the server raised.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

from deployments.core.errors import (
    AsrError,
    AudioTooLong,
    BadRequest,
    Conflict,
    EngineFailed,
    FetchFailed,
    Forbidden,
    InvalidAudio,
    JobsOff,
    LimitExceeded,
    ModelUnavailable,
    Overloaded,
    StorageFailed,
    TimedOut,
    Unauthorized,
    UnknownJob,
    UnknownModel,
    UnsupportedContainer,
    UploadTooLarge,
    UrlRefused,
)

Json = dict[str, Any]

# A class without a row has that of its nearest base class: OutOfMemory is sent as EngineFailed.
STATUS: dict[type[AsrError], tuple[int, str]] = {
    BadRequest: (400, "bad_request"),
    UnknownModel: (404, "model_not_found"),
    UrlRefused: (400, "url_refused"),
    JobsOff: (404, "jobs_off"),
    UnknownJob: (404, "job_not_found"),
    Conflict: (409, "conflict"),
    InvalidAudio: (400, "invalid_audio"),
    UnsupportedContainer: (415, "unsupported_container"),
    UploadTooLarge: (413, "upload_too_large"),
    AudioTooLong: (413, "audio_too_long"),
    Overloaded: (503, "overloaded"),
    StorageFailed: (503, "storage_failed"),
    TimedOut: (504, "timed_out"),
    # Not a 502: OpenAI's clients would fetch again at once, and load balancers would take the
    # service for broken, where only the server of a URL is.
    FetchFailed: (424, "fetch_failed"),
    Unauthorized: (401, "invalid_api_key"),
    Forbidden: (403, "permission_denied"),
    LimitExceeded: (429, "rate_limit_exceeded"),
    EngineFailed: (500, "engine_failed"),
    ModelUnavailable: (503, "model_unavailable"),
    AsrError: (500, "internal_error"),
}
CLASS_OF = {code: kind for kind, (_, code) in STATUS.items()}

# A longer Retry-After is ignored by OpenAI's clients, which would send the upload again at once.
OPENAI_WAIT_S = 60.0
OVERLOADED_STATUS = (429, 503)  # 429: a gateway that counts requests
# For an answer without Retry-After, which comes from a proxy whose queue is full.
DEFAULT_RETRY_AFTER_S = 1.0
MAX_FOREIGN_MESSAGE = 200  # characters shown of an answer that another server wrote


def to_error_body(error: AsrError) -> tuple[int, dict[str, str], Json]:
    """The HTTP status, headers and JSON body of an error."""
    row = next(kind for kind in type(error).__mro__ if kind in STATUS)
    status, code = STATUS[row]
    headers = {}
    if isinstance(error, Overloaded | LimitExceeded):
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s)))
    if isinstance(error, LimitExceeded) and error.retry_after_s > OPENAI_WAIT_S:
        headers["x-should-retry"] = "false"
    body = {
        "message": str(error),
        "type": "invalid_request_error" if status < 500 else "server_error",
        "param": getattr(error, "param", None),
        "code": code,
        "detail": list(error.args),
    }
    return status, headers, {"error": body}


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """The wait that Retry-After asks for, in seconds or as a date. None if it has neither."""
    value = next((v for k, v in headers.items() if k.lower() == "retry-after"), "").strip()
    if value.isdecimal():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


def _rebuilt(code: object, detail: object) -> AsrError | None:
    """The exception with its own arguments. None if its class does not take these arguments."""
    kind = CLASS_OF.get(code) if isinstance(code, str) else None
    if kind is None or not isinstance(detail, list):
        return None
    try:
        error = kind(*(tuple(arg) if isinstance(arg, list) else arg for arg in detail))
        str(error)  # the message formats numbers, which another server may not have sent
    except (TypeError, ValueError, IndexError):
        return None
    return error


def from_error_body(status: int, headers: Mapping[str, str], body: object) -> AsrError:
    """The exception that an answer stands for. Another server's answer gives a plain AsrError."""
    error = body.get("error") if isinstance(body, Mapping) else None
    error = error if isinstance(error, Mapping) else {"message": body}
    rebuilt = _rebuilt(error.get("code"), error.get("detail"))
    if rebuilt is not None:
        return rebuilt
    if status in OVERLOADED_STATUS:
        wait_s = retry_after_s(headers)
        return Overloaded(DEFAULT_RETRY_AFTER_S if wait_s is None else wait_s)
    message = str(error.get("message") or "no message")[:MAX_FOREIGN_MESSAGE]
    return AsrError(f"The server answered {status}: {message}")


def to_sse(body: Json) -> str:
    """One server-sent event. Its type is inside the JSON, as OpenAI's is.

    The text is ASCII, because clients also break lines at U+2028 and U+0085, which JSON leaves as
    they are.
    """
    return f"data: {json.dumps(body, separators=(',', ':'))}\n\n"


def from_sse_line(line: str) -> Json | None:
    """The JSON of one line of an event stream. None for blank lines, comments and other fields.

    Raises ValueError for data that is not a JSON object.
    """
    if not line.startswith("data:") or line[5:].strip() == "[DONE]":
        return None
    body = json.loads(line[5:])
    if not isinstance(body, dict):
        raise ValueError(f"not an event: {line[:MAX_FOREIGN_MESSAGE]}")
    return body
