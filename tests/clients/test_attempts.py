"""Several attempts at one request, over real HTTP: the id, the waits, and what the error says."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import stamina

from clients.attempts import Unreached
from clients.http import AsyncClient, Client
from deployments.core.errors import AsrError, EngineFailed, Overloaded, TimedOut
from deployments.core.formats import FORMATS
from deployments.core.types import Delta, Done
from deployments.core.wire import to_error_body, to_sse
from tests.clients.fakes import run
from tests.clients.servers import BARE_500, FINE, HANG_UP, NO_ROUTE, Canned, answering
from tests.core.transcripts import PARAFORMER

Set = Callable[..., None]

DELTA = to_sse({"type": "transcript.text.delta", "delta": "今天"})


def error_event(error: AsrError) -> str:
    _, _, body = to_error_body(error)
    return to_sse({"type": "error", **body})


def done() -> str:
    write_event = FORMATS["detailed_json"].write_event
    assert write_event is not None
    event = write_event(Done(PARAFORMER))
    assert event is not None
    return to_sse(event)


def stream(*events: str) -> Canned:
    return 200, {"Content-Type": "text/event-stream"}, "".join(events)


def refused(error: AsrError, **headers: str) -> Canned:
    status, own, body = to_error_body(error)
    return status, {**own, **headers}, str(body).replace("'", '"').replace("None", "null")


@pytest.fixture(autouse=True)
def no_waiting() -> Iterator[None]:
    with stamina.set_testing(True, attempts=10, cap=True):
        yield


def ask(kind: str, url: str, **settings: int) -> Any:
    """The transcript, whichever client and method it is that gets it."""
    if kind.startswith("async"):
        return run(_ask(kind, url, **settings))
    with Client(url, **settings) as client:
        if kind in WHOLE:
            return client.transcribe(b"recording")
        *_, last = client.stream(b"recording")
        return last.transcript  # type: ignore[union-attr]


async def _ask(kind: str, url: str, **settings: int) -> Any:
    async with AsyncClient(url, **settings) as client:
        if kind in WHOLE:
            return await client.transcribe(b"recording")
        *_, last = [event async for event in client.stream(b"recording")]
        return last.transcript  # type: ignore[union-attr]


WHOLE = ("transcribe", "async transcribe")
STREAMS = ("stream", "async stream")
FAILED = [BARE_500, HANG_UP, NO_ROUTE, (502, {}, "Bad Gateway"), (503, {}, "Service Unavailable")]


@pytest.mark.parametrize("kind", [*WHOLE, *STREAMS])
def test_every_attempt_has_the_same_id_and_the_whole_recording(kind: str) -> None:
    fine = FINE if kind in WHOLE else stream(DELTA, done())

    with answering(*FAILED, fine) as server:
        transcript = ask(kind, server.url, attempts=6)

    assert transcript == PARAFORMER
    assert len(server.ids) == 6
    assert len(set(server.ids)) == 1
    assert re.fullmatch("[0-9a-f]{32}", str(server.ids[0]))
    assert [b"recording" in body for body in server.bodies] == [True] * 6


def test_two_requests_have_two_ids() -> None:
    with answering(FINE) as server, Client(server.url) as client:
        client.transcribe(b"recording")
        client.transcribe(b"recording")

    assert len(set(server.ids)) == 2


@pytest.mark.parametrize("kind", [*WHOLE, *STREAMS])
@pytest.mark.parametrize("answer", FAILED)
def test_the_last_error_says_after_how_many_attempts_it_came(kind: str, answer: Canned) -> None:
    with answering(answer) as server, pytest.raises(AsrError) as caught:
        ask(kind, server.url, attempts=3)

    assert len(server.ids) == 3
    assert str(caught.value).endswith(f"(gave up after 3 attempts with request id {server.ids[0]})")


def test_one_attempt_is_not_counted() -> None:
    with answering(BARE_500) as server, pytest.raises(Unreached) as caught:
        ask("transcribe", server.url, attempts=1)

    assert str(caught.value) == "The server answered 500: Internal Server Error"


def test_a_final_error_after_other_attempts_is_told_as_it_is() -> None:
    broken = EngineFailed("The model failed.")

    with answering(BARE_500, refused(broken)) as server, pytest.raises(EngineFailed) as caught:
        ask("transcribe", server.url)

    assert len(server.ids) == 2
    assert str(caught.value) == "The model failed."


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_a_wait_that_is_too_long_is_not_begun(status: int) -> None:
    with (
        answering((status, {"Retry-After": "3600"}, "Later")) as server,
        pytest.raises((Overloaded, Unreached)) as caught,
    ):
        ask("transcribe", server.url)

    assert len(server.ids) == 1
    assert caught.value.retry_after_s == 3600


@pytest.mark.parametrize("kind", STREAMS)
@pytest.mark.parametrize(
    "first", [stream(), stream(": comment\n\n"), stream(error_event(Overloaded(1.0)))]
)
def test_a_stream_that_fails_before_its_first_event_is_begun_anew(kind: str, first: Canned) -> None:
    with answering(first, stream(DELTA, done())) as server:
        transcript = ask(kind, server.url)

    assert transcript == PARAFORMER
    assert len(set(server.ids)) == 1


@pytest.mark.parametrize("kind", STREAMS)
@pytest.mark.parametrize(
    "first",
    [
        stream(DELTA),
        stream(DELTA, error_event(Overloaded(1.0))),
        stream(DELTA, "data: {broken\n\n"),
        stream(error_event(TimedOut("request", 9.0))),
    ],
)
def test_a_stream_is_never_begun_anew_after_its_first_event(kind: str, first: Canned) -> None:
    with answering(first, stream(DELTA, done())) as server, pytest.raises(AsrError) as caught:
        ask(kind, server.url)

    assert len(server.ids) == 1
    assert "gave up" not in str(caught.value)


def test_an_event_is_given_once_after_a_failed_attempt() -> None:
    with answering(HANG_UP, stream(DELTA, done())) as server, Client(server.url) as client:
        events = list(client.stream(b"recording"))

    assert events == [Delta("今天"), Done(PARAFORMER)]


def test_the_models_are_asked_for_again_too() -> None:
    listed: Canned = (200, {}, '{"data": [{"id": "paraformer-zh"}]}')

    with answering(BARE_500, listed) as server, Client(server.url) as client:
        models = client.models()

    assert models == [{"id": "paraformer-zh"}]
    assert len(set(server.ids)) == 1


@pytest.mark.parametrize(
    "answer",
    [
        (502, {}, "Bad Gateway"),
        (407, {}, "Proxy Authentication Required"),
        (504, {}, ""),
        (200, {}, "<html>Log in to the network</html>"),
        (503, {}, "Service Unavailable"),
    ],
)
@pytest.mark.parametrize("kind", WHOLE)
def test_an_answer_that_a_proxy_may_have_sent_names_the_proxy(
    environment: Set, kind: str, answer: Canned
) -> None:
    with answering(answer) as proxy:
        environment(http_proxy=proxy.url)
        with pytest.raises(AsrError) as caught:
            ask(kind, "http://asr.example", attempts=1)

    assert f"(it came through the proxy {proxy.url} that http_proxy names)" in str(caught.value)


@pytest.mark.parametrize("kind", [*WHOLE, *STREAMS])
def test_an_error_of_the_service_behind_a_proxy_is_the_services(
    environment: Set, kind: str
) -> None:
    with answering(refused(EngineFailed("It broke."))) as proxy:
        environment(http_proxy=proxy.url)
        with pytest.raises(EngineFailed) as caught:
            ask(kind, "http://asr.example")

    assert str(caught.value) == "It broke."


@pytest.mark.parametrize("kind", [*WHOLE, *STREAMS])
@pytest.mark.parametrize("proxy", ["http://127.0.0.1:9", "socks5h://127.0.0.1:9", "bad://p"])
def test_a_proxy_that_cannot_be_used_is_named_and_never_asked_for_loopback(
    environment: Set, kind: str, proxy: str
) -> None:
    environment(all_proxy=proxy)
    fine = FINE if kind in WHOLE else stream(done())

    with answering(fine) as server:
        transcript = ask(kind, server.url)
    with pytest.raises(AsrError, match=f"through the proxy {proxy} that all_proxy names"):
        ask(kind, "http://asr.example", attempts=2)

    assert transcript == PARAFORMER
