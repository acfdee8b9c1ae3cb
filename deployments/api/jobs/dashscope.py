"""DashScope's API for transcribing files, whose SDK needs another base URL and nothing else.

Its tasks are our jobs. What a status, an error or a transcript looks like is in dashscope_json.py.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any
from urllib.parse import urlencode

from starlette.datastructures import FormData, UploadFile
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from deployments.api import warned
from deployments.api.body import json_object
from deployments.api.doors.door import who
from deployments.api.failures import as_asr_error
from deployments.api.form import job_options, unknown
from deployments.api.jobs.dashscope_json import (
    LABEL,
    channel_of,
    check_model,
    error_json,
    list_json,
    refusal,
    request_id,
    submitted_json,
    task_json,
    task_query,
    transcription_json,
    unknown_json,
)
from deployments.api.jobs.form import JobForm, check_idempotency_key, check_url
from deployments.api.jobs.links import is_good, signed
from deployments.api.jobs.requests import called, owner_of
from deployments.core.errors import BadRequest, UnknownJob, UnknownModel
from deployments.core.jobs.model import CANCELED, Json
from deployments.core.types import EngineInfo
from deployments.objects import Objects, transcript_of
from deployments.request.itn import has_effect
from deployments.service_settings import Fetch, JobsSettings

SUBMIT = "/api/v1/services/audio/asr/transcription"
TASKS = "/api/v1/tasks"
# A link carries its own proof, so this path needs no API key.
RESULTS = "/api/v1/transcription-results"
READ = ("channel_id", "language_hints", "hotwords", "itn")
NO_EFFECT = {
    "diarization_enabled": "speakers are not told apart yet",
    "speaker_count": "speakers are not told apart yet",
    "vocabulary_id": "send the words as hotwords",
    "phrase_id": "send the words as hotwords",
    "disfluency_removal_enabled": "fillers stay in the text",
    "timestamp_alignment_enabled": "times are always those of the words",
    "special_word_filter": "no word is hidden",
    "audio_event_detection_enabled": "events are not told",
}

Accept = Callable[[JobForm, str, str | None, int | None], Awaitable[tuple[Json, bool]]]
Endpoint = Callable[[Request], Awaitable[Response]]


class TaskFront:
    """The endpoints. `jobs` is the handle of the deployment, `accept` makes a job of a form."""

    def __init__(
        self,
        jobs: Any,
        objects: Objects,
        engine: EngineInfo,
        fetch: Fetch,
        settings: JobsSettings,
        accept: Accept,
    ) -> None:
        self._jobs, self._objects, self._engine = jobs, objects, engine
        self._fetch, self._settings, self._accept = fetch, settings, accept
        self._secret = ""  # asked for once

    async def submit(self, request: Request) -> Response:
        if request.headers.get("x-dashscope-async", "").lower() != "enable":
            message = "Send the header X-DashScope-Async: enable. There are no synchronous calls."
            return JSONResponse(refusal("AccessDenied", message), 403)
        key = request.headers.get("idempotency-key")
        check_idempotency_key(key)
        form = task_form(await json_object(request), self._engine, self._fetch, self._settings)
        caller = who(request)
        job, _ = await self._accept(form, caller.id, key, caller.max_waiting_files)
        return JSONResponse(submitted_json(job), headers=warned.header(form.without_effect))

    async def get(self, request: Request) -> Response:
        task = request.path_params["task"]
        try:
            job = await called(self._jobs.get.remote(task, owner_of(request)))
        except UnknownJob:
            return JSONResponse(unknown_json(task))
        secret = await self._link_secret()
        return JSONResponse(task_json(job, partial(_link, request, secret, job["id"])))

    async def page(self, request: Request) -> Response:
        query, owner = task_query(request.query_params), owner_of(request)
        served = self._engine.name
        try:
            check_model(request.query_params.get("model_name") or served, served)
        except UnknownModel:
            return JSONResponse(list_json([], 0, query, served))
        jobs, n_tasks = await called(self._jobs.tasks.remote(owner, query))
        return JSONResponse(list_json(jobs, n_tasks, query, served))

    async def cancel(self, request: Request) -> Response:
        """Cancels a task that waits or runs. DashScope cancels only one that waits."""
        task = request.path_params["task"]
        try:
            job = await called(self._jobs.cancel.remote(task, owner_of(request)))
        except UnknownJob:
            job = {"files": []}
        if not any(file["state"] == CANCELED for file in job["files"]):
            message = "The task has ended, or there is no such task."
            return JSONResponse(refusal("UnsupportedOperation", message), 400)
        return JSONResponse({"request_id": request_id()})

    async def transcription(self, request: Request) -> Response:
        """The transcript of a file, for whoever has the link."""
        name, number = request.path_params["job"], request.path_params["number"]
        secret = await self._link_secret()
        if not is_good(secret, name, number, request.query_params, time.time()):
            message = "The link is not one of ours, or it has expired. Fetch the task again."
            return JSONResponse(refusal("AccessDenied", message), 403)
        job = await called(self._jobs.get.remote(name, None))  # the link is the proof
        file = job["files"][number]
        transcript = await transcript_of(self._objects, name, number, file)
        body = transcription_json(transcript, file, channel_of(job))
        return JSONResponse(body, headers={"Cache-Control": "private, no-store"})

    def routes(self) -> list[Route]:
        one = f"{TASKS}/{{task}}"
        rows: tuple[tuple[str, Endpoint, tuple[str, ...]], ...] = (
            (SUBMIT, self.submit, ("POST",)),
            (TASKS, self.page, ("GET",)),
            (f"{TASKS}/", self.page, ("GET",)),  # as DashScope's documents write it
            (one, self.get, ("GET", "POST")),  # its documents poll with POST, its SDK with GET
            (f"{one}/cancel", self.cancel, ("POST",)),
            (f"{RESULTS}/{{job}}/{{number:int}}", self.transcription, ("GET",)),
        )
        return [Route(path, answering(work), methods=[*names]) for path, work, names in rows]

    async def _link_secret(self) -> str:
        self._secret = self._secret or await called(self._jobs.link_secret.remote())
        return self._secret


def task_form(body: Json, engine: EngineInfo, fetch: Fetch, settings: JobsSettings) -> JobForm:
    """What a request asks for, checked. Raises BadRequest, UrlRefused and UnknownModel."""
    model = check_model(body.get("model"), engine.name)
    urls = _urls(body, settings)
    for url in urls:
        check_url(url, fetch)
    parameters = body.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise BadRequest("parameters is an object.", "parameters")
    channel = _channel(parameters.get("channel_id"))
    # DashScope writes numbers in digits unless it is told otherwise.
    itn = parameters.get("itn", True if has_effect(engine) else None)
    languages = _texts(parameters, "language_hints")
    fields: list[tuple[str, str | UploadFile]] = [
        ("channel", str(channel)),
        ("language", ",".join(languages)),
        *([] if itn is None else [("itn", str(itn))]),
        *(("hotwords", word) for word in _texts(parameters, "hotwords")),
    ]
    options, idle = job_options(FormData(fields), engine)
    warnings = (*idle, *_in_vain(parameters), *_in_vain({"phrase_id": body.get("resources")}))
    asked = {"model": model, "channel_id": channel, "warnings": list(warnings)}
    return JobForm(
        recording=None,
        file_name="",
        urls=urls,
        options=options,
        name="",
        webhook=None,
        labels={LABEL: asked},
        priority=0,
        expires_after_s=None,
        without_effect=warnings,
    )


def answering(endpoint: Endpoint) -> Endpoint:
    """The endpoint, whose errors have DashScope's shape."""

    async def answered(request: Request) -> Response:
        try:
            return await endpoint(request)
        except ClientDisconnect:
            raise
        except Exception as error:
            status, headers, body = error_json(as_asr_error(error))
            return JSONResponse(body, status, headers)

    return answered


def _link(request: Request, secret: str, job: str, number: int) -> str:
    """The link as the client reaches this service. A proxy that ends TLS says so."""
    scheme = request.headers.get("x-forwarded-proto", "").partition(",")[0].strip().lower()
    base = request.base_url.replace(scheme=scheme) if scheme == "https" else request.base_url
    query = urlencode(signed(secret, job, number, time.time()))
    return f"{str(base).rstrip('/')}{RESULTS}/{job}/{number}?{query}"


def _urls(body: Json, settings: JobsSettings) -> tuple[str, ...]:
    sent = body.get("input")
    urls = sent.get("file_urls") if isinstance(sent, dict) else None
    if not isinstance(urls, list) or not urls or not all(isinstance(url, str) for url in urls):
        raise BadRequest("input.file_urls is a list of URLs.", "input.file_urls")
    if len(urls) > settings.max_files:
        message = f"A task has at most {settings.max_files} files."
        raise BadRequest(message, "input.file_urls")
    return tuple(url.strip() for url in urls)


def _channel(sent: object) -> int:
    """The one channel that is asked for. Without a word it is the first, as at DashScope."""
    channels = [0] if sent is None else sent if isinstance(sent, list) else [sent]
    if len(channels) != 1 or isinstance(channels[0], bool) or not isinstance(channels[0], int):
        message = "channel_id is a list of one channel, such as [0]. Submit a task for each."
        raise BadRequest(message, "channel_id")
    return channels[0]


def _texts(parameters: Json, name: str) -> list[str]:
    sent = parameters.get(name) or []
    if not isinstance(sent, list) or not all(isinstance(text, str) for text in sent):
        raise BadRequest(f"{name} is a list of texts.", name)
    return sent


def _in_vain(parameters: Json) -> list[str]:
    """A warning for each parameter that was sent and changes nothing."""
    sent = {name: value for name, value in parameters.items() if value}
    known = [f"{name}: {NO_EFFECT[name]}" for name in sent if name in NO_EFFECT]
    return known + unknown([name for name in sent if name not in {*READ, *NO_EFFECT}])
