"""The multipart form of a transcription request, read once and checked completely.

Field names and values are OpenAI's (`client.audio.transcriptions.create`), plus `hotwords`,
`url`, `channel`, `itn` and the format `detailed_json`. The `warnings` header of the answer names
the fields of OpenAI that have no effect here, and the fields that nobody knows.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

from pydantic import TypeAdapter, ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request

from deployments.api.body import BYTES_PER_MB, received
from deployments.api.hotwords import read_hotwords
from deployments.api.parts import base
from deployments.api.uploads import Recording, recording
from deployments.config import Limits
from deployments.core.errors import BadRequest, InvalidAudio, UploadTooLarge
from deployments.core.formats import DEFAULT_FORMAT, FORMATS, GRANULARITIES
from deployments.core.types import EngineInfo, Hints, TranscribeOptions
from deployments.request.fetching import Fetcher
from deployments.request.itn import has_effect

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
MAX_CHANNEL_DIGITS = 3
MAX_NAMED, MAX_NAME_CHARS = 8, 40  # of the unknown fields, in a warning
MAX_SHOWN = 100  # characters of a value in an error


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
    async with received(request, limits, is_read=_is_read) as fields:
        return await _check(fields, is_strict(request, limits), limits, engine, fetcher)


def is_strict(request: Request, limits: Limits) -> bool:
    """Whether an unknown field is an error: by `?strict=true`, else by the configuration."""
    value = request.query_params.get("strict", "")
    return limits.strict_fields if value.lower() in NOT_SENT else _true("strict", value)


async def _check(
    fields: FormData, strict: bool, limits: Limits, engine: EngineInfo, fetcher: Fetcher | None
) -> Form:
    odd = [n for n in dict.fromkeys(fields) if not _is_read(n) and base(n) not in NO_EFFECT]
    if odd and strict:
        raise BadRequest(f"There is no field {odd[0]!r} here.", odd[0])
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
        model=text(fields, "model") or None,
        hints=_hints(fields, hotwords),
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
            *unknown(odd),
        ),
    )


def job_options(fields: FormData, engine: EngineInfo) -> tuple[TranscribeOptions, tuple[str, ...]]:
    """The options of a job, and the names of the fields that were sent and have no effect.

    The format is chosen when the result is fetched, so words have their times where the model
    knows them.
    """
    hotwords, has_weights = read_hotwords(_values(fields, "hotwords") + _values(fields, "keywords"))
    options = TranscribeOptions(
        model=text(fields, "model") or None,
        hints=_hints(fields, hotwords),
        timed=True,
        channel=_channel(fields),
        itn=_is_true(fields, "itn"),
    )
    idle = (*_without_effect(fields, engine), *(["weights of hotwords"] if has_weights else []))
    return options, idle


def _hints(fields: FormData, hotwords: tuple[str, ...]) -> Hints:
    languages = ",".join(value for _, value in _values(fields, "languages"))
    return Hints(
        language=text(fields, "language") or languages or None,
        prompt=text(fields, "prompt") or None,
        hotwords=hotwords,
    )


def _source(fields: FormData, fetcher: Fetcher | None) -> UploadFile | str:
    """The upload, or the URL of the recording."""
    file, url = fields.get("file"), text(fields, "url")
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


def text(fields: FormData, name: str) -> str:
    """The value of the field, or "" if it was not sent."""
    value = fields.get(name, "")
    assert isinstance(value, str)  # `Parts` makes a file of no other field than `file`
    value = value.strip()
    return "" if value.lower() in NOT_SENT else value


def _values(fields: FormData, name: str) -> list[tuple[str, str]]:
    """The fields of the list, as `name`, `name[]` or `name[0]`, each with its value."""
    return [(n, str(value)) for n, value in fields.multi_items() if base(n) == name]


def _one_of(fields: FormData, name: str, values: Sequence[str], *, default: str) -> str:
    value = text(fields, name).lower() or default
    if value not in values:
        raise BadRequest(f"{name} is {value[:MAX_SHOWN]!r}; it can be {', '.join(values)}.", name)
    return value


def _is_true(fields: FormData, name: str) -> bool:
    value = text(fields, name)
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
    value = text(fields, "channel")
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


def unknown(names: Sequence[str]) -> list[str]:
    """The unknown fields in one warning, in the characters that a header may have."""
    shown = [quote(name[:MAX_NAME_CHARS], safe="[]") for name in names[:MAX_NAMED]]
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return [f"unknown fields {' '.join(shown)}{more}"] if names else []
