"""The multipart form of a transcription request, read once and checked completely.

Field names and values are OpenAI's (`client.audio.transcriptions.create`), plus `hotwords`,
`channel`, `itn` and the format `detailed_json`. Known fields without an effect here are named in
the answer's `warnings` header; unknown ones are refused.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import Request
from starlette.types import Message, Receive

from deployments.config import Limits
from deployments.core.errors import BadRequest, InvalidAudio, Overloaded, UploadTooLarge
from deployments.core.formats import FORMATS
from deployments.core.types import EngineInfo, Hints, TranscribeOptions, Upload
from deployments.itn import has_effect

logger = logging.getLogger("ray.serve")

GRANULARITIES = ("word", "segment")
BOOLEAN = ("true", "false")
FIELDS = (
    "file",
    "model",
    "language",
    "prompt",
    "response_format",
    "timestamp_granularities[]",
    "timestamp_granularities",
    "stream",
    "hotwords",
    "hotwords[]",
    "channel",
    "itn",
)
# OpenAI's fields that are accepted and do nothing here, each named in `warnings` when sent.
NO_EFFECT = (
    "temperature",
    "chunking_strategy",
    "include",
    "include[]",
    "known_speaker_names",
    "known_speaker_names[]",
    "known_speaker_references",
    "known_speaker_references[]",
)
STREAMABLE = ("json", "text", "detailed_json")
TIMED = ("verbose_json", "detailed_json")
STORAGE_RETRY_S = 30.0  # a full disk: other uploads end and free theirs
MAX_CHANNEL_DIGITS = 3
MAX_FIELD_BYTES = 64 * 1024
BYTES_PER_MB = 1_000_000
MULTIPART_SLACK_BYTES = 1_000_000  # boundaries and the other fields


@dataclass(frozen=True, slots=True)
class Form:
    """A checked request."""

    upload: Upload
    options: TranscribeOptions
    response_format: str
    granularities: tuple[str, ...]
    stream: bool
    without_effect: tuple[str, ...]


async def read_form(request: Request, limits: Limits, engine: EngineInfo) -> Form:
    """The request's form. The spooled upload is gone from disk when this returns.

    Raises BadRequest, InvalidAudio (empty file), UploadTooLarge, Overloaded (the disk is full).
    """
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise BadRequest("Send the recording as multipart/form-data, in the field 'file'.", "file")
    max_bytes = limits.max_upload_mb * BYTES_PER_MB
    if int(request.headers.get("content-length", 0)) > max_bytes + MULTIPART_SLACK_BYTES:
        raise UploadTooLarge(limits.max_upload_mb)
    counted = Request(request.scope, _counting(request, max_bytes, limits.max_upload_mb))
    try:
        async with counted.form(max_files=1, max_part_size=MAX_FIELD_BYTES) as fields:
            return await _check(fields, limits, engine)
    except OSError as error:  # the upload is spooled to disk above a megabyte
        logger.error("The upload cannot be stored: %s", error)
        raise Overloaded(STORAGE_RETRY_S) from None
    except (MultiPartException, HTTPException) as error:
        reason = error.message if isinstance(error, MultiPartException) else error.detail
        raise BadRequest(f"The form cannot be read: {reason}") from None


def _counting(request: Request, max_bytes: float, limit_mb: float) -> Receive:
    """The request's body, cut off with UploadTooLarge once it passes the limit."""
    n_bytes = 0

    async def receive() -> Message:
        nonlocal n_bytes
        message = await request.receive()
        n_bytes += len(message.get("body", b""))
        if n_bytes > max_bytes + MULTIPART_SLACK_BYTES:
            raise UploadTooLarge(limit_mb)
        return message

    return receive


async def _check(fields: FormData, limits: Limits, engine: EngineInfo) -> Form:
    unknown = sorted(set(fields) - {*FIELDS, *NO_EFFECT})
    if unknown:
        raise BadRequest(f"There is no field {unknown[0]!r} here.", unknown[0])
    file = fields.get("file")
    if not isinstance(file, UploadFile):
        raise BadRequest("The field 'file' must hold the recording.", "file")
    response_format = _one_of(fields, "response_format", tuple(FORMATS), default="json")
    stream = _one_of(fields, "stream", BOOLEAN, default="false") == "true"
    if stream and response_format not in STREAMABLE:
        raise BadRequest(
            f"stream=true goes with response_format {', '.join(STREAMABLE)}.", "response_format"
        )
    granularities = _granularities(fields, response_format)
    options = TranscribeOptions(
        model=_text(fields, "model") or None,
        hints=Hints(
            language=_text(fields, "language") or None,
            prompt=_text(fields, "prompt") or None,
            hotwords=_hotwords(fields),
        ),
        word_times="word" in granularities,
        channel=_channel(fields),
        itn=_one_of(fields, "itn", BOOLEAN, default="false") == "true",
    )
    if file.size and file.size > limits.max_upload_mb * BYTES_PER_MB:
        raise UploadTooLarge(limits.max_upload_mb)
    upload = np.frombuffer(await file.read(), np.uint8)
    if not len(upload):
        raise InvalidAudio("The file is empty.")
    return Form(
        upload=upload,
        options=options,
        response_format=response_format,
        granularities=granularities,
        stream=stream,
        without_effect=_without_effect(fields, engine),
    )


def _text(fields: FormData, name: str) -> str:
    """The field's value, "" where it was not sent."""
    value = fields.get(name, "")
    if not isinstance(value, str):
        raise BadRequest(f"The field {name!r} must be text, not a file.", name)
    return value.strip()


def _one_of(fields: FormData, name: str, values: Sequence[str], *, default: str) -> str:
    value = _text(fields, name).lower() or default
    if value not in values:
        raise BadRequest(f"{name} is {value!r}; it can be {', '.join(values)}.", name)
    return value


def _granularities(fields: FormData, response_format: str) -> tuple[str, ...]:
    name = "timestamp_granularities[]"
    sent = [*fields.getlist(name), *fields.getlist("timestamp_granularities")]
    for value in sent:
        if value not in GRANULARITIES:
            raise BadRequest(f"{name} is {value!r}; it can be word, segment.", name)
    if sent and response_format not in TIMED:
        raise BadRequest(f"{name} goes with response_format {', '.join(TIMED)}.", name)
    return tuple(str(value) for value in sent) or ("segment",)


def _hotwords(fields: FormData) -> tuple[str, ...]:
    """`hotwords[]` is one hotword, as it is; `hotwords` several, divided by space or commas."""
    listed, several = fields.getlist("hotwords[]"), fields.getlist("hotwords")
    if not all(isinstance(value, str) for value in (*listed, *several)):
        raise BadRequest("hotwords must be text, not a file.", "hotwords")
    return (
        *map(str, listed),
        *(word for value in several for word in re.split(r"[\s,，、;；]+", str(value)) if word),
    )


def _channel(fields: FormData) -> int | None:
    value = _text(fields, "channel")
    if value and not (value.isascii() and value.isdigit() and len(value) <= MAX_CHANNEL_DIGITS):
        raise BadRequest("channel counts from 0.", "channel")
    return int(value) if value else None


def _without_effect(fields: FormData, engine: EngineInfo) -> tuple[str, ...]:
    """The fields that were sent and change nothing on this engine."""
    idle_hints = {"prompt", "hotwords", "hotwords[]"} - {
        name for hint in engine.hints for name in (hint, f"{hint}[]")
    }
    idle_itn = set() if has_effect(engine) else {"itn"}
    return tuple(sorted(set(fields) & {*NO_EFFECT, *idle_hints, *idle_itn}))
