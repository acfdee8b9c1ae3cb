"""Bad input over real HTTP always gets a clear JSON error, never a traceback or a 500."""

from __future__ import annotations

from collections.abc import Mapping

import httpx
import numpy as np
import pytest

from benchmarks.material.recordings import wav_bytes
from tests.core.media.encode import encode, encode_picture_only, sine
from tests.e2e.conftest import MAX_AUDIO_S, SAMPLE, Service

pytestmark = pytest.mark.ray

PATH = "/v1/audio/transcriptions"


SECOND = wav_bytes(sine(440, rate_hz=16_000, n_samples=16_000))
FLAC = encode(
    sine(440, rate_hz=16_000, n_samples=48_000)[None],
    rate_hz=16_000,
    container="flac",
    codec="flac",
)
TOO_LONG = encode(
    np.zeros((1, (MAX_AUDIO_S + 2) * 8_000), np.int16),
    rate_hz=8_000,
    container="flac",
    codec="flac",
)

Fields = Mapping[str, str | list[str]]


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        pytest.param(b"", 400, "invalid_audio", id="empty"),
        pytest.param(b"hello, this is text\n" * 50, 415, "unsupported_container", id="text"),
        pytest.param(b"%PDF-1.7\n" + bytes(500), 415, "unsupported_container", id="pdf"),
        pytest.param(bytes(range(256)) * 8, 400, "invalid_audio", id="not-audio"),
        pytest.param(SECOND[: len(SECOND) // 2], 400, "invalid_audio", id="truncated-wav"),
        pytest.param(FLAC[: len(FLAC) // 2], 400, "invalid_audio", id="truncated-flac"),
        pytest.param(b"fLaC" + bytes(range(256)) * 8, 400, "invalid_audio", id="broken-flac"),
        pytest.param(encode_picture_only("mp4"), 400, "invalid_audio", id="video-without-sound"),
        pytest.param(wav_bytes(np.zeros(0, np.int16)), 400, "invalid_audio", id="zero-length"),
        pytest.param(TOO_LONG, 413, "audio_too_long", id="too-long"),
        pytest.param(SECOND + bytes(9_000_000), 413, "upload_too_large", id="too-large"),
    ],
)
def test_an_unusable_recording_gets_a_clear_error(
    service: Service, data: bytes, status: int, code: str
) -> None:
    response = httpx.post(service.url + PATH, files={"file": ("recording", data)}, timeout=60)

    assert_error(response, status, code)


@pytest.mark.parametrize(
    ("fields", "status", "code", "param"),
    [
        ({"model": "gpt-9"}, 404, "model_not_found", "model"),
        ({"response_format": "xml"}, 400, "bad_request", "response_format"),
        ({"language": "xx"}, 400, "bad_request", "language"),
        ({"stream": "perhaps"}, 400, "bad_request", "stream"),
        ({"stream": "true", "response_format": "srt"}, 400, "bad_request", "response_format"),
        ({"channel": "-1"}, 400, "bad_request", "channel"),
        ({"channel": "7"}, 400, "bad_request", "channel"),
        ({"hotwords": " ".join(map(str, range(300)))}, 400, "bad_request", "hotwords"),
        (
            {"response_format": "verbose_json", "timestamp_granularities[]": "phoneme"},
            400,
            "bad_request",
            "timestamp_granularities[]",
        ),
        (
            {"timestamp_granularities[]": "word"},
            400,
            "bad_request",
            "timestamp_granularities[]",
        ),
    ],
)
def test_the_error_names_the_field_that_cannot_be_used(
    service: Service, fields: Fields, status: int, code: str, param: str
) -> None:
    files = {"file": ("second.wav", SECOND)}
    response = httpx.post(service.url + PATH, data=dict(fields), files=files, timeout=60)

    assert_error(response, status, code)
    assert response.json()["error"]["param"] == param


def test_an_unknown_field_is_named_or_refused_if_the_request_is_strict(service: Service) -> None:
    body = {"data": {"vad_filter": "true"}, "files": {"file": ("second.wav", SECOND)}}

    lenient = httpx.post(service.url + PATH, **body, timeout=60)  # type: ignore[arg-type]
    strict = httpx.post(f"{service.url}{PATH}?strict=true", **body, timeout=60)  # type: ignore[arg-type]

    assert (lenient.status_code, lenient.headers["warnings"]) == (200, "unknown fields vad_filter")
    assert_error(strict, 400, "bad_request")
    assert strict.json()["error"]["param"] == "vad_filter"


@pytest.mark.parametrize(
    "request_parts",
    [
        pytest.param({"content": b"", "headers": {}}, id="no-body"),
        pytest.param({"json": {"file": "x"}}, id="json"),
        pytest.param({"data": {"model": "whisper-1"}}, id="urlencoded"),
        pytest.param({"files": {"other": ("a.wav", SECOND)}}, id="no-file"),
        pytest.param({"files": {"model": (None, "x")}}, id="only-text-fields"),
        pytest.param(
            {
                "content": b"--b\r\nthis is no form",
                "headers": {"content-type": "multipart/form-data; boundary=b"},
            },
            id="broken-multipart",
        ),
        pytest.param(
            {"content": b"x", "headers": {"content-type": "multipart/form-data"}}, id="no-boundary"
        ),
    ],
)
def test_a_request_without_a_form_with_a_file_gets_a_400(
    service: Service, request_parts: Mapping[str, object]
) -> None:
    response = httpx.post(service.url + PATH, timeout=60, **request_parts)  # type: ignore[arg-type]

    assert_error(response, 400, "bad_request")


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/nothing", 404), ("GET", PATH, 405), ("PUT", PATH, 405)]
)
def test_unknown_paths_and_methods_get_json_errors_too(
    service: Service, method: str, path: str, status: int
) -> None:
    response = httpx.request(method, service.url + path)

    assert response.status_code == status
    assert response.json()["error"]["message"]


@pytest.mark.parametrize("level", [0, 3, 300])
def test_silence_and_noise_give_an_empty_transcript(service: Service, level: int) -> None:
    noise = np.random.default_rng(0).normal(0, level, 32_000).astype(np.int16)

    response = httpx.post(
        service.url + PATH, files={"file": ("noise.wav", wav_bytes(noise))}, timeout=60
    )

    assert response.status_code == 200
    assert response.json()["text"] == ""


def test_openai_fields_without_effect_are_accepted_and_listed(service: Service) -> None:
    fields = {"temperature": "0.2", "prompt": "会议" * 650, "include[]": "logprobs"}

    response = httpx.post(
        service.url + PATH, data=fields, files={"file": ("second.wav", SECOND)}, timeout=60
    )

    assert response.status_code == 200
    assert response.headers["warnings"] == "include[], prompt, temperature"


def test_an_error_before_the_first_event_of_a_stream_sets_the_status(service: Service) -> None:
    response = httpx.post(
        service.url + PATH,
        data={"stream": "true"},
        files={"file": ("text.txt", b"some text")},
        timeout=60,
    )

    assert_error(response, 415, "unsupported_container")


def test_the_service_still_works_after_all_this(service: Service) -> None:
    response = httpx.post(
        service.url + PATH, files={"file": ("meeting.flac", SAMPLE.read_bytes())}, timeout=120
    )

    assert response.status_code == 200
    assert len(response.json()["text"]) > 100


def assert_error(response: httpx.Response, status: int, code: str) -> None:
    """The error has OpenAI's form, and shows nothing of the service's internals."""
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert error["code"] == code
    assert {"message", "type", "param", "code"} <= error.keys()
    assert error["message"]
    assert "Traceback" not in response.text
    assert "ray::" not in response.text
