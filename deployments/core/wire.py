"""Errors and streamed events as they stand on the wire, for the server and for the clients.

An error's body is OpenAI's, `{"error": {"message", "type", "param", "code"}}`; our own key `detail`
has the arguments of the exception, so that a client raises what the server raised.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from deployments.core.errors import (
    AsrError,
    AudioTooLong,
    BadRequest,
    EngineFailed,
    InvalidAudio,
    ModelUnavailable,
    Overloaded,
    TimedOut,
    UnknownModel,
    UnsupportedContainer,
    UploadTooLarge,
)

Json = dict[str, Any]

# The row of the nearest base class counts: OutOfMemory travels as EngineFailed.
STATUS: dict[type[AsrError], tuple[int, str]] = {
    BadRequest: (400, "bad_request"),
    UnknownModel: (404, "model_not_found"),
    InvalidAudio: (400, "invalid_audio"),
    UnsupportedContainer: (415, "unsupported_container"),
    UploadTooLarge: (413, "upload_too_large"),
    AudioTooLong: (413, "audio_too_long"),
    Overloaded: (503, "overloaded"),
    TimedOut: (504, "timed_out"),
    EngineFailed: (500, "engine_failed"),
    ModelUnavailable: (503, "model_unavailable"),
    AsrError: (500, "internal_error"),
}
CLASS_OF = {code: kind for kind, (_, code) in STATUS.items()}

OVERLOADED_STATUS = 503
# Of a 503 without Retry-After: a proxy on the way, whose queue is full.
DEFAULT_RETRY_AFTER_S = 1.0
MAX_FOREIGN_MESSAGE = 200  # characters of an answer that is not ours


def to_error_body(error: AsrError) -> tuple[int, dict[str, str], Json]:
    """The HTTP status, headers and JSON body of an error."""
    row = next(kind for kind in type(error).__mro__ if kind in STATUS)
    status, code = STATUS[row]
    headers = {}
    if isinstance(error, Overloaded):
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s)))
    body = {
        "message": str(error),
        "type": "invalid_request_error" if status < 500 else "server_error",
        "param": getattr(error, "param", None),
        "code": code,
        "detail": list(error.args),
    }
    return status, headers, {"error": body}


def _retry_after_s(headers: Mapping[str, str]) -> float:
    value = next((v for k, v in headers.items() if k.lower() == "retry-after"), "")
    return float(value) if value.isdecimal() else DEFAULT_RETRY_AFTER_S


def _rebuilt(code: object, detail: object) -> AsrError | None:
    """The exception with its own arguments, None if they are not what its class takes."""
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
    """The exception of an answer; of another server's or a proxy's answer what can be known."""
    error = body.get("error") if isinstance(body, Mapping) else None
    error = error if isinstance(error, Mapping) else {"message": body}
    rebuilt = _rebuilt(error.get("code"), error.get("detail"))
    if rebuilt is not None:
        return rebuilt
    if status == OVERLOADED_STATUS:
        return Overloaded(_retry_after_s(headers))
    message = str(error.get("message") or "no message")[:MAX_FOREIGN_MESSAGE]
    return AsrError(f"The server answered {status}: {message}")


def to_sse(body: Json) -> str:
    """One server-sent event; its type is inside the JSON, as OpenAI's.

    In ASCII, since clients also break lines at U+2028 and U+0085, which JSON leaves as they are.
    """
    return f"data: {json.dumps(body, separators=(',', ':'))}\n\n"


def from_sse_line(line: str) -> Json | None:
    """The JSON of one line of an event stream, None for blank lines, comments and other fields.

    Raises ValueError for data that is not a JSON object.
    """
    if not line.startswith("data:") or line[5:].strip() == "[DONE]":
        return None
    body = json.loads(line[5:])
    if not isinstance(body, dict):
        raise ValueError(f"not an event: {line[:MAX_FOREIGN_MESSAGE]}")
    return body
