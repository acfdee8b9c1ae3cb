"""The multipart form of a transcription request, read once and checked completely.

Field names and values are OpenAI's (`client.audio.transcriptions.create`), plus `hotwords`,
`url`, `channel`, `itn` and the format `detailed_json`. The `warnings` header of the answer names
the fields of OpenAI that have no effect here, and the fields that nobody knows.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

from pydantic import TypeAdapter, ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException
from starlette.requests import Request
from starlette.types import Message, Receive

from deployments.api.fetching import Fetcher
from deployments.api.hotwords import read_hotwords
from deployments.api.pace import Progress
from deployments.api.parts import Parts, base
from deployments.api.uploads import Recording, recording
from deployments.config import Limits
from deployments.core.errors import BadRequest, InvalidAudio, Overloaded, UploadTooLarge
from deployments.core.formats import DEFAULT_FORMAT, FORMATS, GRANULARITIES
from deployments.core.types import EngineInfo, Hints, TranscribeOptions
from deployments.request.itn import has_effect

logger = logging.getLogger("ray.serve")

FIELDS = (
    "file",
    "url",
    "model",
    "language",
    "prompt",
    "response_format",
    "stream",
    "channel",
    "itn",
)
# Each may be sent once or more, as `name`, `name[]` or `name[0]`.
LISTS = ("timestamp_granularities", "hotwords", "keywords", "languages")
# OpenAI's fields that are accepted and do nothing here, each named in `warnings` when sent.
NO_EFFECT = (
    "temperature",
    "chunking_strategy",
    "include",
    "known_speaker_names",
    "known_speaker_references",
)
HINT_OF = {"prompt": "prompt", "hotwords": "hotwords", "keywords": "hotwords"}
NOT_SENT = ("", "null", "none", "undefined")  # what programs write for a value that they lack
STORAGE_RETRY_S = 30.0  # after a full disk: by then other uploads have ended and freed their space
MAX_CHANNEL_DIGITS = 3
MAX_NAMED, MAX_NAME_CHARS = 8, 40  # of the unknown fields, in a warning
MAX_SHOWN = 100  # characters of a value in an error
BYTES_PER_MB = 1_000_000
MULTIPART_SLACK_BYTES = 1_000_000  # boundaries and the other fields


@dataclass(frozen=True, slots=True)
class Form:
    """A checked request."""

    recording: Recording
    options: TranscribeOptions
    response_format: str
    granularities: tuple[str, ...]
    stream: bool
    without_effect: tuple[str, ...]


async def read_form(
    request: Request, limits: Limits, engine: EngineInfo, fetcher: Fetcher | None = None
) -> Form:
    """The form of the request. The caller closes its recording, which may be a file.

    Raises BadRequest, InvalidAudio (empty file), UploadTooLarge, Overloaded (the disk is full), and
    what the fetcher raises. Without a fetcher the field `url` is refused.
    """
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise BadRequest("Send the recording as multipart/form-data, in the field 'file'.", "file")
    max_bytes = limits.max_upload_mb * BYTES_PER_MB
    if int(request.headers.get("content-length", 0)) > max_bytes + MULTIPART_SLACK_BYTES:
        raise UploadTooLarge(limits.max_upload_mb)
    try:
        with Progress(request.scope) as progress:
            receive = _counting(request, max_bytes, limits.max_upload_mb, progress)
            counted = Request(request.scope, receive)
            fields = await Parts(counted.headers, counted.stream(), is_read=_is_read).parse()
            try:
                return await _check(fields, _is_strict(request, limits), limits, engine, fetcher)
            finally:
                await fields.close()
    except OSError as error:  # the upload is spooled to disk above a megabyte
        logger.error("The upload cannot be stored: %s", error)
        raise Overloaded(STORAGE_RETRY_S) from None
    except MultiPartException as error:
        raise BadRequest(f"The form cannot be read: {error.message}") from None


def _counting(request: Request, max_bytes: float, limit_mb: float, progress: Progress) -> Receive:
    """The body of the request. Raises UploadTooLarge once it passes the limit."""
    n_bytes = 0

    async def receive() -> Message:
        nonlocal n_bytes
        message = await request.receive()
        n_bytes += len(message.get("body", b""))
        if n_bytes > max_bytes + MULTIPART_SLACK_BYTES:
            raise UploadTooLarge(limit_mb)
        progress.tell(n_bytes)
        return message

    return receive


def _is_strict(request: Request, limits: Limits) -> bool:
    """Whether an unknown field is an error: by `?strict=true`, else by the configuration."""
    value = request.query_params.get("strict", "")
    return limits.strict_fields if value.lower() in NOT_SENT else _true("strict", value)


async def _check(
    fields: FormData, strict: bool, limits: Limits, engine: EngineInfo, fetcher: Fetcher | None
) -> Form:
    unknown = [n for n in dict.fromkeys(fields) if not _is_read(n) and base(n) not in NO_EFFECT]
    if unknown and strict:
        raise BadRequest(f"There is no field {unknown[0]!r} here.", unknown[0])
    source = _source(fields, fetcher)
    formats = tuple(FORMATS)
    response_format = _one_of(fields, "response_format", formats, default=DEFAULT_FORMAT)
    stream = _is_true(fields, "stream")
    if stream and not FORMATS[response_format].streamable:
        streamable = ", ".join(known for known, form in FORMATS.items() if form.streamable)
        raise BadRequest(f"stream=true goes with response_format {streamable}.", "response_format")
    granularities = _granularities(fields, response_format)
    hotwords, has_weights = read_hotwords(_values(fields, "hotwords") + _values(fields, "keywords"))
    options = TranscribeOptions(
        model=_text(fields, "model") or None,
        hints=Hints(
            language=_text(fields, "language")
            or ",".join(value for _, value in _values(fields, "languages"))
            or None,
            prompt=_text(fields, "prompt") or None,
            hotwords=hotwords,
        ),
        word_times="word" in granularities,
        timed="word" in granularities or FORMATS[response_format].has_word_times,
        channel=_channel(fields),
        itn=_is_true(fields, "itn"),
    )
    return Form(
        recording=await _recording(source, limits, fetcher),
        options=options,
        response_format=response_format,
        granularities=granularities,
        stream=stream,
        without_effect=(
            *_without_effect(fields, engine),
            *(["weights of hotwords"] if has_weights else []),
            *_shortened(options.hints, limits, engine),
            *_unknown(unknown),
        ),
    )


def _source(fields: FormData, fetcher: Fetcher | None) -> UploadFile | str:
    """The upload, or the URL of the recording."""
    file, url = fields.get("file"), _text(fields, "url")
    if url and file is not None:
        raise BadRequest("Send the recording as 'file' or its 'url', not both.", "url")
    if url and fetcher is None:
        raise BadRequest("URLs are not fetched here: the setting fetch.enabled is off.", "url")
    if not url and not isinstance(file, UploadFile):
        raise BadRequest("The field 'file' must hold the recording.", "file")
    return file if isinstance(file, UploadFile) else url


async def _recording(
    source: UploadFile | str, limits: Limits, fetcher: Fetcher | None
) -> Recording:
    """The recording, fetched where it is a URL. This is the last step, because it may take long."""
    if isinstance(source, str):
        assert fetcher is not None  # `_source` gives no URL without it
        file = await fetcher.fetch(source)
    else:
        file = source
    try:
        if file.size and file.size > limits.max_upload_mb * BYTES_PER_MB:
            raise UploadTooLarge(limits.max_upload_mb)
        if not file.size:
            raise InvalidAudio("The file is empty.")
        return await recording(file)
    finally:
        await file.close()


def _is_read(name: str) -> bool:
    return name in FIELDS or base(name) in LISTS


def _text(fields: FormData, name: str) -> str:
    """The value of the field, or "" if it was not sent."""
    value = fields.get(name, "")
    assert isinstance(value, str)  # `Parts` makes a file of no other field than `file`
    value = value.strip()
    return "" if value.lower() in NOT_SENT else value


def _values(fields: FormData, name: str) -> list[tuple[str, str]]:
    """The fields of the list, as `name`, `name[]` or `name[0]`, each with its value."""
    return [(n, str(value)) for n, value in fields.multi_items() if base(n) == name]


def _one_of(fields: FormData, name: str, values: Sequence[str], *, default: str) -> str:
    value = _text(fields, name).lower() or default
    if value not in values:
        raise BadRequest(f"{name} is {value[:MAX_SHOWN]!r}; it can be {', '.join(values)}.", name)
    return value


def _is_true(fields: FormData, name: str) -> bool:
    value = _text(fields, name)
    return _true(name, value) if value else False


def _true(name: str, value: str) -> bool:
    """True, 1, yes or on, in any case; false for their opposites. Raises BadRequest for others."""
    try:
        return TypeAdapter(bool).validate_python(value.strip().lower())
    except ValidationError:
        raise BadRequest(f"{name} is {value[:MAX_SHOWN]!r}; it can be true, false.", name) from None


def _granularities(fields: FormData, response_format: str) -> tuple[str, ...]:
    """The granularities, which may stand in one field with commas or as the text of a list."""
    name = "timestamp_granularities[]"
    sent: list[str] = []
    for _, value in _values(fields, "timestamp_granularities"):
        words = re.split(r"[\s,;\[\]\"']+", value.lower())
        sent += [word for word in words if word not in NOT_SENT]
    for value in sent:
        if value not in GRANULARITIES:
            raise BadRequest(f"{name} is {value[:MAX_SHOWN]!r}; it can be word, segment.", name)
    if sent and not FORMATS[response_format].timed:
        timed = ", ".join(known for known, form in FORMATS.items() if form.timed)
        raise BadRequest(f"{name} goes with response_format {timed}.", name)
    return tuple(dict.fromkeys(sent)) or ("segment",)


def _channel(fields: FormData) -> int | None:
    value = _text(fields, "channel")
    if value and not (value.isascii() and value.isdigit() and len(value) <= MAX_CHANNEL_DIGITS):
        raise BadRequest("channel counts from 0.", "channel")
    return int(value) if value else None


def _without_effect(fields: FormData, engine: EngineInfo) -> tuple[str, ...]:
    """The fields that were sent and change nothing on this engine."""
    idle = {*NO_EFFECT, *(name for name, hint in HINT_OF.items() if hint not in engine.hints)}
    if not has_effect(engine):
        idle.add("itn")
    sent = {name if name.endswith("[]") else base(name) for name in fields}  # bounds the header
    return tuple(sorted(name for name in sent if name.removesuffix("[]") in idle))


def _shortened(hints: Hints, limits: Limits, engine: EngineInfo) -> list[str]:
    limit = limits.max_prompt_chars
    is_long = "prompt" in engine.hints and len(hints.prompt or "") > limit
    return [f"only the last {limit} characters of prompt are used"] if is_long else []


def _unknown(names: Sequence[str]) -> list[str]:
    """The unknown fields in one warning, in the characters that a header may have."""
    shown = [quote(name[:MAX_NAME_CHARS], safe="[]") for name in names[:MAX_NAMED]]
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return [f"unknown fields {' '.join(shown)}{more}"] if names else []
