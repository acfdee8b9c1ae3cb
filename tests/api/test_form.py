"""The form of a request: which values reach the router, and which are refused."""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from itertools import repeat
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.testclient import TestClient

from deployments.api.form import FIELDS, LISTS, Form, read_form
from deployments.api.openapi import document
from deployments.config import Limits
from deployments.core.errors import BadRequest, Overloaded, UploadTooLarge
from deployments.core.types import EngineInfo, Hints
from tests.api.reading import PARAFORMER, WHISPER, read

MEGABYTE = 1_000_000
TOO_MANY = [*(f"x{i}" for i in range(20)), "长" * 100, "a\r\nb", "c,d"]


def sent(
    fields: Mapping[str, Any],
    *,
    data: bytes = b"sound",
    more_files: Sequence[tuple[str, tuple[str, bytes]]] = (),
    **how: Any,
) -> Form:
    """The form as the service reads it from a real multipart request."""
    return read(data=dict(fields), files=[("file", ("a.wav", data)), *more_files], **how)


def test_the_bytes_arrive_as_they_were_sent() -> None:
    data = bytes(range(256)) * 8000  # over a megabyte: spooled to disk on the way

    form = sent({}, data=data)

    with form.recording as recording:
        assert recording.data.tobytes() == data


def test_fields_that_are_not_sent_have_openais_defaults() -> None:
    form = sent({})

    assert (form.response_format, form.stream, form.granularities) == ("json", False, ("segment",))
    assert form.options.hints == Hints()
    assert form.options.model is None
    assert form.without_effect == ()


def test_a_hint_that_the_engine_does_not_take_is_named() -> None:
    form = sent({"prompt": "会议", "hotwords": "魔搭"}, engine=WHISPER)

    assert form.options.hints == Hints(prompt="会议", hotwords=("魔搭",))
    assert form.without_effect == ("hotwords",)


@pytest.mark.parametrize(("engine", "idle"), [(PARAFORMER, ()), (WHISPER, ("itn",))])
def test_numbers_in_digits_may_be_asked_for(engine: EngineInfo, idle: tuple[str, ...]) -> None:
    form = sent({"itn": "true"}, engine=engine)

    assert (form.options.itn, form.without_effect) == (True, idle)


@pytest.mark.parametrize("max_upload_mb", [3, 4.5])
def test_an_upload_over_the_limit_is_refused(max_upload_mb: float) -> None:
    """By the length that the client announces, and by the size of the file."""
    with pytest.raises(UploadTooLarge):
        sent({}, data=bytes(5 * MEGABYTE), limits={"max_upload_mb": max_upload_mb})


@pytest.mark.parametrize(
    "name",
    ["task", "user", "seed", "vad_filter", "condition_on_previous_text", "model[]", "a[b][c]"],
)
def test_an_unknown_field_is_accepted_and_named(name: str) -> None:
    form = sent({name: "x" * 2_000_000})

    assert form.without_effect == (f"unknown fields {name}",)


@pytest.mark.parametrize("how", [{"query": "?strict=1"}, {"limits": {"strict_fields": True}}])
@pytest.mark.parametrize("name", ["hotword", "Language", "vad_filter"])
def test_an_unknown_field_is_refused_where_that_is_asked_for(
    name: str, how: dict[str, Any]
) -> None:
    with pytest.raises(BadRequest, match="no field") as caught:
        sent({name: "x", "temperature": "0"}, **how)

    assert caught.value.param == name


def test_a_query_may_also_ask_for_leniency() -> None:
    form = sent({"seed": "1"}, query="?strict=false", limits={"strict_fields": True})

    assert form.without_effect == ("unknown fields seed",)


def test_many_and_strange_names_make_a_short_warning_that_a_header_may_carry() -> None:
    (warning,) = sent(dict.fromkeys(TOO_MANY, "")).without_effect
    (strange,) = sent(dict.fromkeys(TOO_MANY[-3:], "")).without_effect

    assert warning == "unknown fields x0 x1 x2 x3 x4 x5 x6 x7 and 15 more"
    assert strange.startswith("unknown fields %E9%95%BF")
    assert "," not in strange
    assert strange.isascii()
    assert strange.isprintable()


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("chunking_strategy[type]", "chunking_strategy"),
        ("include[]", "include[]"),
        ("include[3]", "include"),
        ("known_speaker_references[]", "known_speaker_references[]"),
        ("known_speaker_names[客户]", "known_speaker_names"),
        ("temperature", "temperature"),
    ],
)
def test_openais_fields_without_effect_are_named_however_they_are_written(
    name: str, named: str
) -> None:
    form = sent({name: "x" * 500_000}, query="?strict=true")

    assert form.without_effect == (named,)


def test_an_unknown_file_is_a_field_like_any_other() -> None:
    form = sent({}, more_files=[("cover", ("a.png", bytes(2_000_000)))])

    assert form.without_effect == ("unknown fields cover",)


def test_a_text_may_be_sent_as_a_file() -> None:
    form = sent({}, more_files=[("prompt", ("p.txt", "会议".encode()))])

    assert form.options.hints.prompt == "会议"


def test_a_second_file_is_refused() -> None:
    with pytest.raises(BadRequest):
        sent({}, more_files=[("file", ("b.wav", b"more"))])


def test_a_full_disk_is_a_busy_service_not_a_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile.SpooledTemporaryFile, "rollover", full)

    with pytest.raises(Overloaded):
        sent({}, data=bytes(2 * MEGABYTE))


def endless_upload() -> Iterator[bytes]:
    """A form whose file is 100 MB, in pieces, without a length."""
    yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    yield from repeat(bytes(MEGABYTE), 100)


def test_an_upload_without_a_length_is_cut_off_at_the_limit() -> None:
    async def endpoint(request: Request) -> Response:
        await read_form(request, Limits(max_upload_mb=3), PARAFORMER)
        return Response()

    app = Starlette(routes=[Route("/", endpoint, methods=["POST"])])
    headers = {"content-type": "multipart/form-data; boundary=b"}
    with TestClient(app) as client, pytest.raises(UploadTooLarge):
        client.post("/", content=endless_upload(), headers=headers)


def test_every_field_is_described() -> None:
    post = document(Limits())["paths"]["/v1/audio/transcriptions"]["post"]
    schema = post["requestBody"]["content"]["multipart/form-data"]["schema"]

    assert set(schema["properties"]) == {*FIELDS, *(f"{name}[]" for name in LISTS)}
