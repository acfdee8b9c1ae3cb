"""Errors and events over HTTP: the round trip, and answers of other servers."""

from __future__ import annotations

import json

import openai
import pytest

from deployments.core import errors
from deployments.core.errors import AsrError
from deployments.core.wire import STATUS, from_error_body, from_sse_line, to_error_body, to_sse

ERRORS = [
    (errors.BadRequest("There is no channel 3.", "channel"), 400, "bad_request"),
    (errors.UnknownModel("gpt-9", ("paraformer-zh", "whisper-1")), 404, "model_not_found"),
    (errors.InvalidAudio("The file is empty."), 400, "invalid_audio"),
    (errors.UnsupportedContainer("The file is a PDF document."), 415, "unsupported_container"),
    (errors.UploadTooLarge(512.5), 413, "upload_too_large"),
    (errors.AudioTooLong(3601.5, 3600.0), 413, "audio_too_long"),
    (errors.Overloaded(12.25), 503, "overloaded"),
    (errors.TimedOut("punctuation", 30.0), 504, "timed_out"),
    (errors.EngineFailed("The model failed."), 500, "engine_failed"),
    (errors.ModelUnavailable("paraformer-zh", "run fetch"), 503, "model_unavailable"),
    (errors.AsrError("Something else."), 500, "internal_error"),
    (errors.UrlRefused("Only the ports 80 and 443 are used."), 400, "url_refused"),
    (errors.FetchFailed("The server of the URL answered 404."), 424, "fetch_failed"),
    (errors.Unauthorized("The API key is not valid here."), 401, "invalid_api_key"),
    (errors.Forbidden("This key has no scope 'jobs'."), 403, "permission_denied"),
    (errors.LimitExceeded("4 requests at a time", 1.5), 429, "rate_limit_exceeded"),
]


def every_error_class() -> set[type[AsrError]]:
    """The errors of core/errors.py, without the classes that Ray derives from them."""
    classes = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    return {kind for kind in classes if issubclass(kind, AsrError)}


@pytest.mark.parametrize(("error", "status", "code"), ERRORS)
def test_an_error_comes_back_as_the_same_error(error: AsrError, status: int, code: str) -> None:
    sent_status, headers, body = to_error_body(error)

    received = from_error_body(sent_status, headers, json.loads(json.dumps(body)))

    assert type(received) is type(error)
    assert received.args == error.args
    assert vars(received) == vars(error)
    assert str(received) == str(error)
    assert (sent_status, body["error"]["code"]) == (status, code)


def test_every_error_class_has_a_row_or_is_sent_as_its_base() -> None:
    assert every_error_class() - STATUS.keys() == {errors.OutOfMemory, errors.Draining}
    assert to_error_body(errors.Draining(3))[2]["error"]["code"] == "overloaded"
    assert to_error_body(errors.OutOfMemory("no memory"))[2]["error"]["code"] == "engine_failed"


@pytest.mark.parametrize(("error", "status", "code"), ERRORS)
def test_the_body_has_the_fields_of_openai(error: AsrError, status: int, code: str) -> None:
    _, _, body = to_error_body(error)

    parsed = openai.types.ErrorObject.model_validate(body["error"])
    assert parsed.message == str(error)
    assert parsed.param == getattr(error, "param", None)
    assert (parsed.type == "invalid_request_error") == (status < 500)


@pytest.mark.parametrize(("retry_after_s", "header"), [(0.2, "1"), (12.25, "13"), (60.0, "60")])
def test_overload_tells_in_whole_seconds_when_to_try_again(
    retry_after_s: float, header: str
) -> None:
    _, headers, _ = to_error_body(errors.Overloaded(retry_after_s))
    _, limited, _ = to_error_body(errors.LimitExceeded("60 s of audio a minute", retry_after_s))

    assert headers == limited == {"Retry-After": header}


def test_openai_s_clients_do_not_send_again_what_must_wait_for_long() -> None:
    _, headers, _ = to_error_body(errors.LimitExceeded("60 s of audio a day", 61.0))

    assert headers == {"Retry-After": "61", "x-should-retry": "false"}


@pytest.mark.parametrize(
    "body",
    [
        "<html>502 Bad Gateway</html>",
        None,
        ["?"],
        {"error": "text"},
        {"error": {"message": "m", "code": "audio_too_long", "detail": ["x", None]}},
        {"error": {"message": "m", "code": "audio_too_long", "detail": [1]}},
        {"error": {"message": "m", "code": "overloaded", "detail": []}},
        {"error": {"message": "m", "code": ["?"], "detail": "x"}},
    ],
)
def test_the_answer_of_another_server_is_a_plain_error(body: object) -> None:
    received = from_error_body(502, {}, body)

    assert type(received) is AsrError
    assert "502" in str(received)


@pytest.mark.parametrize(("headers", "expected_s"), [({"retry-after": "7"}, 7.0), ({}, 1.0)])
def test_a_proxy_that_is_full_is_an_overload(headers: dict[str, str], expected_s: float) -> None:
    received = from_error_body(503, headers, "Service Unavailable")

    assert isinstance(received, errors.Overloaded)
    assert received.retry_after_s == expected_s


def test_an_event_comes_back_from_its_line() -> None:
    body = {"type": "transcript.text.delta", "delta": "今天\n\n天气\u2028\x85"}

    lines = to_sse(body).splitlines()

    assert [from_sse_line(line) for line in lines] == [body, None]


@pytest.mark.parametrize("line", ["", ": ping", "event: x", "data: [DONE]", "id: 1"])
def test_other_lines_of_a_stream_are_ignored(line: str) -> None:
    assert from_sse_line(line) is None


@pytest.mark.parametrize(
    ("line", "reason"),
    [("data: {", "property name"), ("data: 3", "not an event"), ("data:", "Expecting value")],
)
def test_a_line_of_broken_data_is_an_error(line: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        from_sse_line(line)
