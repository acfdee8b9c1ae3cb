"""The form of a request: what reaches the router, and what is kept from it."""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.testclient import TestClient

from deployments.config import Limits
from deployments.core.errors import BadRequest, Overloaded, UploadTooLarge
from deployments.core.types import EngineInfo, Hints
from deployments.engines.protocols import EngineSettings, asr_info
from deployments.form import FIELDS, Form, read_form
from deployments.openapi import document

PARAFORMER = asr_info("paraformer", EngineSettings(name="paraformer-zh"))
WHISPER = asr_info("whisper-onnx", EngineSettings(name="whisper-small"))
MEGABYTE = 1_000_000


def sent(
    fields: Mapping[str, Any],
    *,
    engine: EngineInfo = PARAFORMER,
    data: bytes = b"sound",
    max_upload_mb: float = 3,
    more_files: Sequence[tuple[str, tuple[str, bytes]]] = (),
) -> Form:
    """The form as the service reads it from a real multipart request."""
    read: list[Form] = []

    async def endpoint(request: Request) -> Response:
        limits = Limits(max_upload_mb=max_upload_mb)
        read.append(await read_form(request, limits, engine))
        return Response()

    app = Starlette(routes=[Route("/", endpoint, methods=["POST"])])
    with TestClient(app) as client:
        client.post("/", data=dict(fields), files=[("file", ("a.wav", data)), *more_files])
    return read[0]


def test_the_bytes_arrive_as_they_were_sent() -> None:
    data = bytes(range(256)) * 8000  # over a megabyte: spooled to disk on the way

    form = sent({}, data=data)

    assert form.upload.tobytes() == data


def test_what_is_not_sent_has_openais_defaults() -> None:
    form = sent({})

    assert (form.response_format, form.stream, form.granularities) == ("json", False, ("segment",))
    assert form.options.hints == Hints()
    assert form.options.model is None
    assert form.without_effect == ()


def test_hotwords_are_a_list_or_stand_in_one_field() -> None:
    form = sent({"hotwords[]": ["魔搭", "New York"], "hotwords": "通义 魔搭，千问"})

    assert form.options.hints.hotwords == ("魔搭", "New York", "通义", "魔搭", "千问")


def test_a_hint_that_the_engine_does_not_take_is_named() -> None:
    form = sent({"prompt": "会议", "hotwords": "魔搭"}, engine=WHISPER)

    assert form.options.hints == Hints(prompt="会议", hotwords=("魔搭",))
    assert form.without_effect == ("hotwords",)


@pytest.mark.parametrize(("engine", "idle"), [(PARAFORMER, ()), (WHISPER, ("itn",))])
def test_numbers_in_digits_may_be_asked_for(engine: EngineInfo, idle: tuple[str, ...]) -> None:
    form = sent({"itn": "true"}, engine=engine)

    assert (form.options.itn, form.without_effect) == (True, idle)


def test_itn_is_true_or_false() -> None:
    with pytest.raises(BadRequest) as caught:
        sent({"itn": "sometimes"})

    assert caught.value.param == "itn"


@pytest.mark.parametrize("max_upload_mb", [3, 4.5])
def test_an_upload_over_the_limit_is_refused(max_upload_mb: float) -> None:
    """By the length that the client announces, and by the file's own size."""
    with pytest.raises(UploadTooLarge):
        sent({}, data=bytes(5 * MEGABYTE), max_upload_mb=max_upload_mb)


def test_a_second_file_is_refused() -> None:
    with pytest.raises(BadRequest):
        sent({}, more_files=[("file", ("b.wav", b"more"))])


def test_a_full_disk_is_a_busy_service_not_a_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile.SpooledTemporaryFile, "rollover", full)

    with pytest.raises(Overloaded):
        sent({}, data=bytes(2 * MEGABYTE))


def test_an_upload_without_a_length_is_cut_off_at_the_limit() -> None:
    taken = 0

    def body() -> Iterator[bytes]:
        nonlocal taken
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        for _ in range(100):
            taken += MEGABYTE
            yield bytes(MEGABYTE)

    async def endpoint(request: Request) -> Response:
        await read_form(request, Limits(max_upload_mb=3), PARAFORMER)
        return Response()

    app = Starlette(routes=[Route("/", endpoint, methods=["POST"])])
    headers = {"content-type": "multipart/form-data; boundary=b"}
    with TestClient(app) as client, pytest.raises(UploadTooLarge):
        client.post("/", content=body(), headers=headers)


def test_every_field_is_described() -> None:
    post = document(Limits())["paths"]["/v1/audio/transcriptions"]["post"]
    schema = post["requestBody"]["content"]["multipart/form-data"]["schema"]

    aliases = {"hotwords", "timestamp_granularities"}
    assert set(schema["properties"]) == set(FIELDS) - aliases
