"""Requests as the bytes that real programs send, written from their sources and captures."""

from __future__ import annotations

import pytest

from deployments.core.errors import BadRequest, InvalidAudio
from tests.api.reading import BOUNDARY, body, part, read_bytes

SOUND = bytes(range(256)) * 800  # 205 kB: more than a text field had room for, and no UTF-8

CURL = body(
    part('Content-Disposition: form-data; name="model"', "whisper-1"),
    part(
        'Content-Disposition: form-data; name="file"; filename="录音.wav"\nContent-Type: audio/wav',
        SOUND,
    ),
)
CURL_FROM_STANDARD_INPUT = body(  # curl -F 'file=<a.wav'
    part('Content-Disposition: form-data; name="model"', "whisper-1"),
    part('Content-Disposition: form-data; name="file"', SOUND),
)
REQUESTS = body(
    part('Content-Disposition: form-data; name="model"', "whisper-1"),
    part('Content-Disposition: form-data; name="file"; filename="a.wav"', SOUND),
)
URLLIB3_1 = body(  # a name that is not ASCII
    part('Content-Disposition: form-data; name="model"', "whisper-1"),
    part("Content-Disposition: form-data; name=\"file\"; filename*=utf-8''%E5%BD%95.wav", SOUND),
)
AIOHTTP = body(
    part(
        'Content-Type: text/plain; charset=utf-8\nContent-Disposition: form-data; name="model"',
        "whisper-1",
    ),
    part(
        'Content-Type: audio/wav\nContent-Disposition: form-data; name="file"; filename="a.wav"',
        SOUND,
    ),
)
AIOHTTP_BYTES = body(  # FormData.add_field("file", data) with bytes and nothing else
    part('Content-Disposition: form-data; name="model"', "whisper-1"),
    part(
        'Content-Type: application/octet-stream\nContent-Disposition: form-data; name="file"', SOUND
    ),
)
BROWSER = body(  # FormData.append("file", blob)
    part(
        'Content-Disposition: form-data; name="file"; filename="blob"\nContent-Type: audio/webm',
        SOUND,
    ),
    part('Content-Disposition: form-data; name="model"', "whisper-1"),
)
OPEN_WEBUI = body(
    part('Content-Disposition: form-data; name="model"', "whisper-1"),
    part('Content-Disposition: form-data; name="language"', "zh"),
    part('Content-Disposition: form-data; name="file"; filename="6c1f-4f.webm"', SOUND),
)
DIFY = body(
    part('Content-Disposition: form-data; name="model"', "whisper-1"),
    part(
        'Content-Disposition: form-data; name="file"; filename="temp.mp3"\n'
        "Content-Type: audio/mpeg",
        SOUND,
    ),
)
N8N = body(  # the npm package form-data
    part('Content-Disposition: form-data; name="model"', "whisper-1"),
    part(
        'Content-Disposition: form-data; name="file"; filename="data"\nContent-Type: audio/ogg',
        SOUND,
    ),
    part('Content-Disposition: form-data; name="language"', "auto"),
    part('Content-Disposition: form-data; name="temperature"', "0"),
)
DOTNET = body(  # MultipartFormDataContent quotes nothing
    part(
        "Content-Type: text/plain; charset=utf-8\nContent-Disposition: form-data; name=model",
        "whisper-1",
    ),
    part(
        "Content-Disposition: form-data; name=file; filename=a.wav; filename*=utf-8''a.wav", SOUND
    ),
)
OKHTTP = body(
    part('Content-Disposition: form-data; name="model"\nContent-Length: 9', "whisper-1"),
    part(
        'Content-Disposition: form-data; name="file"; filename="a.m4a"\n'
        f"Content-Type: audio/mp4\nContent-Length: {len(SOUND)}",
        SOUND,
    ),
)
LOWER_CASE = body(
    part('content-disposition: Form-Data; Name="model"', "whisper-1"),
    part('content-disposition: FORM-DATA; NAME="file"; FILENAME="A.WAV"', SOUND),
)
SHAPES = {
    name.lower(): value
    for name, value in dict(globals()).items()
    if isinstance(value, bytes) and name.isupper() and name != "SOUND"
}


@pytest.mark.parametrize("shape", SHAPES)
def test_the_recording_and_the_model_arrive_from_every_program(shape: str) -> None:
    form = read_bytes(SHAPES[shape])

    assert form.recording.data.tobytes() == SOUND
    assert form.options.model == "whisper-1"
    assert set(form.without_effect) <= {"temperature"}


@pytest.mark.parametrize(
    "content_type",
    [
        f"Multipart/Form-Data; boundary={BOUNDARY}",
        f"MULTIPART/FORM-DATA; BOUNDARY={BOUNDARY}",
        f'multipart/form-data; boundary="{BOUNDARY}"',
        f"multipart/form-data;boundary={BOUNDARY}; charset=utf-8",
        f"multipart/form-data ; charset=UTF-8 ; boundary={BOUNDARY}",
    ],
)
def test_the_content_type_has_many_spellings(content_type: str) -> None:
    assert read_bytes(CURL, content_type=content_type).recording.data.tobytes() == SOUND


@pytest.mark.parametrize(
    "content_type",
    ["multipart/form-data", "multipart/mixed; boundary=b", "audio/wav", "text/plain"],
)
def test_what_is_no_form_is_refused(content_type: str) -> None:
    with pytest.raises(BadRequest):
        read_bytes(CURL, content_type=content_type)


def test_a_recording_without_bytes_is_empty_also_without_a_name() -> None:
    with pytest.raises(InvalidAudio):
        read_bytes(body(part('Content-Disposition: form-data; name="file"', b"")))


@pytest.mark.parametrize("header", ["Content-Type: audio/wav", "Content-Disposition: form-data"])
def test_a_part_without_a_field_name_is_refused(header: str) -> None:
    with pytest.raises(BadRequest, match="no name"):
        read_bytes(body(part(header, SOUND)))


def test_a_request_without_a_recording_says_so() -> None:
    with pytest.raises(BadRequest, match="'file'"):
        read_bytes(body(part('Content-Disposition: form-data; name="audio"; filename="a"', SOUND)))
