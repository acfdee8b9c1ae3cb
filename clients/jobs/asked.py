"""What a client asks of a new job, the same for every transport."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypedDict
from uuid import uuid4

from clients.jobs.model import Job
from clients.request import Options, Source, Url, options_from
from deployments.core.errors import BadRequest
from deployments.core.jobs.model import NewFile, NewJob, State, new_id
from deployments.core.jobs.objects import audio_key
from deployments.core.types import TranscribeOptions, Upload

MAX_NAME_CHARS = 200  # as the service keeps them
MAX_PRIORITY = 100

Sources: TypeAlias = Source | Sequence[Url]  # several URLs make one job of several files
JobName: TypeAlias = str | Job  # a job, or its id


class JobAsked(Options, total=False):
    """The keyword arguments of `submit`."""

    name: str | None  # what lists show; None: the name of the first file
    priority: int  # from -100 to 100; files of a higher one are worked at first
    expires_after_s: float | None  # a file that has not begun by then fails
    metadata: Mapping[str, Any] | None  # a JSON object, which the job shows again
    webhook: str | None  # a URL that is told of the job's end
    idempotency_key: str | None  # None: the client makes one for this call


class Chosen(TypedDict, total=False):
    """The keyword arguments of `list`."""

    states: Sequence[State]  # empty: all
    limit: int  # jobs of a page, at most 100
    after: str | None  # the `next_cursor` of the page before
    created_after_s: float | None  # seconds since 1970
    created_before_s: float | None


@dataclass(frozen=True, slots=True)
class JobRequest:
    """A checked request for a job."""

    options: TranscribeOptions
    name: str
    priority: int
    expires_after_s: float | None
    metadata: str  # as JSON
    webhook: str | None
    key: str


def request_from(
    *,
    name: str | None = None,
    priority: int = 0,
    expires_after_s: float | None = None,
    metadata: Mapping[str, Any] | None = None,
    webhook: str | None = None,
    idempotency_key: str | None = None,
    language: str | None = None,
    prompt: str | None = None,
    hotwords: Sequence[str] = (),
    model: str | None = None,
    channel: int | None = None,
    itn: bool = False,
) -> JobRequest:
    """The keyword arguments of `JobAsked`. Raises BadRequest."""
    if abs(priority) > MAX_PRIORITY:
        message = f"priority is a whole number from -{MAX_PRIORITY} to {MAX_PRIORITY}."
        raise BadRequest(message, "priority")
    try:
        labels = json.dumps(dict(metadata or {}), sort_keys=True)
    except (TypeError, ValueError) as error:
        raise BadRequest(f"metadata is no JSON object: {error}", "metadata") from None
    key = uuid4().hex if idempotency_key is None else idempotency_key
    options = options_from(
        language=language, prompt=prompt, hotwords=hotwords, model=model, channel=channel, itn=itn
    )
    return JobRequest(options, name or "", priority, expires_after_s, labels, webhook, key)


def urls_of(sources: Sources) -> tuple[Url, ...] | None:
    """The URLs, if the job is of URLs. Raises BadRequest if there is none."""
    if isinstance(sources, Url):
        return (sources,)
    if not isinstance(sources, Sequence) or isinstance(sources, str | bytes):
        return None
    if not sources or not all(isinstance(one, Url) for one in sources):
        raise BadRequest("A job of several files is a list of Url.", "url")
    return tuple(sources)


def new_job(asked: JobRequest, name: str, content: Upload | tuple[Url, ...]) -> NewJob:
    """The job as the deployment takes it. `name` is that of the recording."""
    job = new_id("job")
    if isinstance(content, tuple):
        files = tuple(NewFile(_last_part(one.url), url=one.url) for one in content)
    else:
        sha256 = hashlib.sha256(content.data).hexdigest()
        files = (NewFile(name, None, audio_key(job, 0), len(content), sha256),)
    parts = [str(asked.options), asked.name, asked.priority, asked.expires_after_s, asked.metadata]
    parts += [asked.webhook, [(file.name, file.url, file.sha256) for file in files]]
    return NewJob(
        id=job,
        files=files,
        options=asked.options,
        body_hash=hashlib.sha256(json.dumps(parts).encode()).hexdigest(),
        name=(asked.name or files[0].name)[:MAX_NAME_CHARS],
        labels=json.loads(asked.metadata),
        webhook_url=asked.webhook,
        priority=asked.priority,
        expires_after_s=asked.expires_after_s,
        idempotency_key=asked.key,
    )


def id_of(job: JobName) -> str:
    return job.id if isinstance(job, Job) else job


def _last_part(url: str) -> str:
    """The last part of the path, without a query, which may hold a secret."""
    path = url.split("?", 1)[0].split("#", 1)[0].rstrip("/")
    return (path.rpartition("/")[2] or "recording")[:MAX_NAME_CHARS]
