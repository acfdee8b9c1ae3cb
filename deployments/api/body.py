"""Reads the body of a request as a form, within the limits: multipart, or a JSON object."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException
from starlette.requests import Request
from starlette.types import Message, Receive

from deployments.api.pace import Progress
from deployments.api.parts import MAX_TEXT_BYTES, Parts
from deployments.config import Limits
from deployments.core.errors import BadRequest, Overloaded, UploadTooLarge

logger = logging.getLogger("ray.serve")

STORAGE_RETRY_S = 30.0  # after a full disk: by then other uploads have ended and freed their space
BYTES_PER_MB = 1_000_000
MULTIPART_SLACK_BYTES = 1_000_000  # boundaries and the other fields


@asynccontextmanager
async def received(
    request: Request,
    limits: Limits,
    *,
    is_read: Callable[[str], bool],
    takes_json: bool = False,
) -> AsyncIterator[FormData]:
    """The fields of the request, whose files are closed on leaving.

    Raises BadRequest, UploadTooLarge, and Overloaded where the disk is full.
    """
    kind = request.headers.get("content-type", "").lower()
    if takes_json and kind.startswith("application/json"):
        yield _fields_of(await json_object(request))
        return
    if not kind.startswith("multipart/form-data"):
        raise BadRequest("Send the recording as multipart/form-data, in the field 'file'.", "file")
    max_bytes = limits.max_upload_mb * BYTES_PER_MB
    if int(request.headers.get("content-length", 0)) > max_bytes + MULTIPART_SLACK_BYTES:
        raise UploadTooLarge(limits.max_upload_mb)
    try:
        with Progress(request.scope) as progress:
            receive = _counting(request, max_bytes, limits.max_upload_mb, progress)
            counted = Request(request.scope, receive)
            fields = await Parts(counted.headers, counted.stream(), is_read=is_read).parse()
            try:
                yield fields
            finally:
                await fields.close()
    except OSError as error:  # the upload is spooled to disk above a megabyte
        logger.error("The upload cannot be stored: %s", error)
        raise Overloaded(STORAGE_RETRY_S) from None
    except MultiPartException as error:
        raise BadRequest(f"The form cannot be read: {error.message}") from None


async def json_object(request: Request) -> dict[str, Any]:
    """The JSON object in the body. Raises BadRequest."""
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_TEXT_BYTES:
            raise BadRequest(f"The JSON has more than {MAX_TEXT_BYTES} bytes.")
    try:
        found = json.loads(body)
        json.dumps(found, ensure_ascii=False).encode()  # an escape may be half a character
    except (ValueError, RecursionError):
        raise BadRequest("The body is not JSON.") from None
    if not isinstance(found, dict):
        raise BadRequest("The body is not a JSON object.")
    return found


def _fields_of(body: dict[str, Any]) -> FormData:
    """The object as a form has it: a list is a field that was sent several times."""
    fields: list[tuple[str, str | UploadFile]] = []
    for name, value in body.items():
        for one in value if isinstance(value, list) else [value]:
            if one is not None:
                fields.append((name, one if isinstance(one, str) else json.dumps(one)))
    return FormData(fields)


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
