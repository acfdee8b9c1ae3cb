"""The form of a new job: the fields of a transcription, and those of the job itself."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request

from deployments.api.body import BYTES_PER_MB, received
from deployments.api.form import FIELDS, LISTS, NO_EFFECT, is_strict, job_options, text, unknown
from deployments.api.parts import base
from deployments.api.uploads import Recording, recording
from deployments.config import Limits
from deployments.core.errors import BadRequest, InvalidAudio, UploadTooLarge, UrlRefused
from deployments.core.jobs.model import KEY_CHARS, NAME_CHARS
from deployments.core.types import EngineInfo, TranscribeOptions
from deployments.outgoing.bucket_urls import check_bucket_url, is_bucket_url
from deployments.outgoing.urls import parsed
from deployments.service_settings import Fetch, JobsSettings

JOB_FIELDS = (*FIELDS, "name", "webhook", "metadata", "priority", "expires_after_s")
JOB_LISTS = (*LISTS, "url", "urls")
MAX_PRIORITY = 100
MAX_METADATA_CHARS = 4_000
MAX_URL_CHARS = 8_000


@dataclass(frozen=True, slots=True)
class JobForm:
    """A checked form. It has a recording or URLs. The caller closes the recording."""

    recording: Recording | None
    file_name: str
    urls: tuple[str, ...]
    options: TranscribeOptions
    name: str
    webhook: str | None
    labels: dict[str, Any]
    priority: int
    expires_after_s: float | None
    without_effect: tuple[str, ...]

    def fields(self) -> list[Any]:
        """What the client asked for besides its recording, for comparing two requests."""
        return [
            *(self.urls, str(self.options), self.name, self.webhook, self.labels, self.priority),
            self.expires_after_s,
        ]


async def read_job_form(
    request: Request, limits: Limits, engine: EngineInfo, fetch: Fetch, settings: JobsSettings
) -> JobForm:
    """The form of the request, multipart or JSON. Raises as `read_form`."""
    async with received(request, limits, is_read=_is_read, takes_json=True) as fields:
        odd = [n for n in dict.fromkeys(fields) if not _is_read(n) and base(n) not in NO_EFFECT]
        if odd and is_strict(request, limits):
            raise BadRequest(f"There is no field {odd[0]!r} here.", odd[0])
        file, urls = fields.get("file"), _urls(fields)
        if not urls and not isinstance(file, UploadFile):
            raise BadRequest("Send a recording as 'file', or its 'url'.", "file")
        if urls and file is not None:
            raise BadRequest("Send the recording as 'file' or its 'url', not both.", "url")
        if len(urls) > settings.max_files:
            raise BadRequest(f"A job has at most {settings.max_files} files.", "url")
        for url in urls:
            check_url(url, fetch)
        options, idle = job_options(fields, engine)
        form = JobForm(
            recording=None,
            file_name=_file_name(file),
            urls=urls,
            options=options,
            name=text(fields, "name").replace("\0", "")[:NAME_CHARS],
            webhook=_webhook(fields, fetch, settings),
            labels=_labels(fields),
            priority=_priority(fields),
            expires_after_s=_expires(fields),
            without_effect=(*idle, *unknown(odd)),
        )
        if not isinstance(file, UploadFile):
            return form
        if file.size and file.size > limits.max_upload_mb * BYTES_PER_MB:
            raise UploadTooLarge(limits.max_upload_mb)
        if not file.size:
            raise InvalidAudio("The file is empty.")
        return _with(form, await recording(file))


def check_url(url: str, fetch: Fetch) -> None:
    """Raises UrlRefused for a URL that would not be fetched, as far as its text tells."""
    if len(url) > MAX_URL_CHARS:
        raise UrlRefused(f"A URL has at most {MAX_URL_CHARS} characters.")
    if is_bucket_url(url):
        check_bucket_url(url, fetch.buckets)
    elif not fetch.enabled:
        raise UrlRefused("URLs are not fetched here: the setting fetch.enabled is off.")
    else:
        target = parsed(url)
        fetch.allowed.check_port(target.host, target.port)


def check_idempotency_key(key: str | None) -> None:
    if key is not None and not 0 < len(key) <= KEY_CHARS:
        raise BadRequest(f"Idempotency-Key has 1 to {KEY_CHARS} characters.")


def _with(form: JobForm, recording: Recording) -> JobForm:
    return JobForm(
        recording=recording,
        **{name: getattr(form, name) for name in JobForm.__slots__ if name != "recording"},
    )


def _is_read(name: str) -> bool:
    return name in JOB_FIELDS or base(name) in JOB_LISTS


def _urls(fields: FormData) -> tuple[str, ...]:
    found = [str(v).strip() for n, v in fields.multi_items() if base(n) in ("url", "urls")]
    return tuple(url for url in found if url)


def _file_name(file: object) -> str:
    name = file.filename if isinstance(file, UploadFile) else ""
    name = (name or "recording").replace("\0", "").replace("\\", "/").rpartition("/")[2]
    return name[:NAME_CHARS] or "recording"


def _webhook(fields: FormData, fetch: Fetch, settings: JobsSettings) -> str | None:
    url = text(fields, "webhook")
    if not url:
        return None
    if not settings.webhooks:
        raise BadRequest("Webhooks are off: the setting is jobs.webhooks.", "webhook")
    try:
        target = parsed(url)
        fetch.allowed.check_port(target.host, target.port)
    except UrlRefused as error:
        raise UrlRefused(error.message, "webhook") from None
    return url


def _labels(fields: FormData) -> dict[str, Any]:
    sent = text(fields, "metadata")
    try:
        found = json.loads(sent or "{}")
        json.dumps(found, allow_nan=False, ensure_ascii=False).encode()  # it is shown again later
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or len(sent) > MAX_METADATA_CHARS:
        message = f"metadata is a JSON object of at most {MAX_METADATA_CHARS} characters."
        raise BadRequest(message, "metadata")
    return found


def _priority(fields: FormData) -> int:
    sent = text(fields, "priority") or "0"
    try:
        found = int(sent)
    except ValueError:
        found = MAX_PRIORITY + 1
    if abs(found) > MAX_PRIORITY:
        message = f"priority is a whole number from -{MAX_PRIORITY} to {MAX_PRIORITY}."
        raise BadRequest(message, "priority")
    return found


def _expires(fields: FormData) -> float | None:
    sent = text(fields, "expires_after_s")
    if not sent:
        return None
    try:
        found = float(sent)
    except ValueError:
        found = -1.0
    if not 0 < found < 10 * 365 * 86_400:
        raise BadRequest("expires_after_s is a number of seconds.", "expires_after_s")
    return found
