"""What the endpoints of jobs read from a request, and how they ask the deployment of jobs."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Awaitable
from typing import TypeVar

from ray.exceptions import RayTaskError
from starlette.requests import Request

from deployments.api.jobs.form import JobForm
from deployments.core.errors import AsrError, BadRequest, UnknownJob
from deployments.core.jobs.model import NAME_CHARS, STATES, Json, NewFile, Query, State, is_id

T = TypeVar("T")

CALL_TIMEOUT_S = 60.0
MAX_LIMIT = 100
MAX_EDITS, MAX_EDIT_CHARS = 100_000, 10_000
ID_CHARS = 40  # shown of what is no id


async def called(work: Awaitable[T]) -> T:
    """The result of a call. Raises the error of the deployment itself, not of Ray's task."""
    try:
        return await asyncio.wait_for(work, CALL_TIMEOUT_S)
    except RayTaskError as error:
        if isinstance(error.cause, AsrError):
            raise error.cause from None
        raise


def owner_of(request: Request) -> str:
    """The id of the caller's key. Empty where the service uses no keys."""
    return str(getattr(getattr(request.state, "caller", None), "id", ""))


def query_of(request: Request) -> Query:
    """Raises BadRequest."""
    params = request.query_params
    limit = params.get("limit", "20")
    if not (limit.isascii() and limit.isdigit() and 0 < int(limit[:9]) <= MAX_LIMIT):
        raise BadRequest(f"limit is a number from 1 to {MAX_LIMIT}.", "limit")
    asked = [state for state in params.get("state", "").split(",") if state]
    if any(state not in STATES for state in asked):
        raise BadRequest(f"state can be {', '.join(STATES)}.", "state")
    states: tuple[State, ...] = tuple(state for state in STATES if state in asked)
    return Query(
        limit=int(limit),
        after=params.get("after") or None,
        states=states,
        created_after_s=_time(params.get("created_after"), "created_after"),
        created_before_s=_time(params.get("created_before"), "created_before"),
    )


def number_of(request: Request) -> int:
    """The file that is meant, by `?file=`. Raises BadRequest."""
    sent = request.query_params.get("file", "0")
    if not (sent.isascii() and sent.isdigit() and len(sent) < 6):
        raise BadRequest("file is the number of a file, from 0.", "file")
    return int(sent)


def checked_edits(body: Json) -> Json:
    """The edited texts by segment. Raises BadRequest."""
    found: Json = body.get("segments", {})
    is_whole = isinstance(found, dict) and len(found) <= MAX_EDITS
    if not is_whole or not all(_is_edit(index, text) for index, text in found.items()):
        raise BadRequest("segments is an object of texts by the index of a segment.", "segments")
    return found


def _is_edit(index: str, text: object) -> bool:
    is_number = index.isascii() and index.isdecimal() and len(index) < 10
    return is_number and isinstance(text, str) and len(text) <= MAX_EDIT_CHARS


def _time(sent: str | None, name: str) -> float | None:
    try:
        return None if not sent else float(sent)
    except ValueError:
        raise BadRequest(f"{name} is a time in seconds since 1970.", name) from None


def named(request: Request) -> tuple[str, str]:
    """The job of the path and its owner. Raises UnknownJob for what is no id."""
    job = str(request.path_params["job"])
    if not is_id(job, "job"):
        raise UnknownJob(job[:ID_CHARS])
    return job, owner_of(request)


def name_of(url: str) -> str:
    """The last part of the path, without a query, which may hold a secret."""
    path = url.split("?", 1)[0].split("#", 1)[0].rstrip("/")
    return (path.rpartition("/")[2] or "recording")[:NAME_CHARS]


def body_hash(form: JobForm, files: tuple[NewFile, ...]) -> str:
    parts = [*form.fields(), [(file.name, file.url, file.sha256) for file in files]]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
