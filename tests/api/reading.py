"""Reads a request's bytes into the form, as the service does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.testclient import TestClient

from deployments.api.form import Form, read_form
from deployments.config import Limits
from deployments.core.types import EngineInfo
from deployments.engines.families import asr_info
from deployments.engines.protocols import EngineSettings

PARAFORMER = asr_info("paraformer", EngineSettings(name="paraformer-zh"))
WHISPER = asr_info("whisper-onnx", EngineSettings(name="whisper-small"))
BOUNDARY = "b0undary"


def part(header: str, value: str | bytes) -> bytes:
    """A part of a form. `header` is all that stands before its empty line."""
    data = value if isinstance(value, bytes) else value.encode()
    head = header.replace("\n", "\r\n").encode()
    return b"--" + BOUNDARY.encode() + b"\r\n" + head + b"\r\n\r\n" + data + b"\r\n"


def body(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--" + BOUNDARY.encode() + b"--\r\n"


def read(
    *,
    engine: EngineInfo = PARAFORMER,
    limits: Mapping[str, Any] | None = None,
    query: str = "",
    **request: Any,
) -> Form:
    """The form of a request, which is given as httpx takes it."""
    forms: list[Form] = []

    async def endpoint(received: Request) -> Response:
        forms.append(await read_form(received, Limits.model_validate(limits or {}), engine))
        return Response()

    app = Starlette(routes=[Route("/", endpoint, methods=["POST"])])
    with TestClient(app) as client:
        client.post(f"/{query}", **request)
    return forms[0]


def read_bytes(content: bytes, *, content_type: str = "", **how: Any) -> Form:
    headers = {"content-type": content_type or f"multipart/form-data; boundary={BOUNDARY}"}
    return read(content=content, headers=headers, **how)


def read_fields(fields: Mapping[str, Any], **how: Any) -> Form:
    return read(data=dict(fields), files=[("file", ("a.wav", b"sound"))], **how)
