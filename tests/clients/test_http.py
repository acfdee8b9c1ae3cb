"""What is special to HTTP: requests as sent, answers of strangers, when a request is repeated."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator

import httpx
import pytest
import stamina

from clients.http import AsyncClient, Client
from deployments.core.errors import AsrError, EngineFailed, ModelUnavailable, Overloaded, TimedOut
from deployments.core.formats import FORMATS
from deployments.core.types import Delta
from deployments.core.wire import to_error_body, to_sse
from tests.clients.fakes import run
from tests.core.transcripts import PARAFORMER

Answer = httpx.Response | httpx.TransportError
URL = "http://service"


def fine() -> httpx.Response:
    _, render = FORMATS["detailed_json"]
    return httpx.Response(200, text=render(PARAFORMER, ()))


def failed(error: AsrError) -> httpx.Response:
    status, headers, body = to_error_body(error)
    return httpx.Response(status, headers=headers, json=body)


class Server:
    """Gives the answers in turn, and keeps the requests."""

    def __init__(self, *answers: Answer) -> None:
        self._answers = iter(answers)
        self.bodies: list[bytes] = []
        self.transport = httpx.MockTransport(self._answer)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.bodies.append(request.read())
        answer = next(self._answers)
        if isinstance(answer, httpx.TransportError):
            raise answer
        return answer

    def client(self, **settings: int) -> Client:
        return Client(URL, transport=self.transport, **settings)


@pytest.fixture
def no_waiting() -> Iterator[None]:
    with stamina.set_testing(True, attempts=10, cap=True):
        yield


# Made anew for each test: a response can be read by one client only.
REPEATED: dict[str, Callable[[], Answer]] = {
    "refused": lambda: httpx.ConnectError("refused"),
    "no connection": lambda: httpx.ConnectTimeout("slow"),
    "busy": lambda: failed(Overloaded(1.0)),
    "loading": lambda: failed(ModelUnavailable("paraformer-zh", "it is loading")),
    "busy proxy": lambda: httpx.Response(503, text="Service Unavailable"),
}
NOT_REPEATED: dict[str, Callable[[], Answer]] = {
    "no answer": lambda: httpx.ReadTimeout("slow"),
    "reset": lambda: httpx.ReadError("reset"),
    "engine failed": lambda: failed(EngineFailed("The model failed.")),
    "timed out": lambda: failed(TimedOut("request", 9.0)),
    "busy for an hour": lambda: failed(Overloaded(3600.0)),
    "bad gateway": lambda: httpx.Response(502, text="Bad Gateway"),
    "not found": lambda: httpx.Response(404, json={"detail": "Not Found"}),
}


@pytest.mark.usefixtures("no_waiting")
@pytest.mark.parametrize("first", REPEATED.values(), ids=REPEATED)
def test_a_request_is_repeated_whole_where_nothing_was_done(first: Callable[[], Answer]) -> None:
    server = Server(first(), fine())

    transcript = server.client().transcribe(io.BytesIO(b"recording"))

    assert transcript == PARAFORMER
    assert [b"recording" in body for body in server.bodies] == [True, True]


@pytest.mark.usefixtures("no_waiting")
@pytest.mark.parametrize("first", REPEATED.values(), ids=REPEATED)
def test_the_async_client_repeats_too(first: Callable[[], Answer]) -> None:
    server = Server(first(), fine())

    transcript = run(AsyncClient(URL, transport=server.transport).transcribe(b"recording"))

    assert transcript == PARAFORMER


@pytest.mark.usefixtures("no_waiting")
@pytest.mark.parametrize("first", NOT_REPEATED.values(), ids=NOT_REPEATED)
def test_any_other_failure_is_final(first: Callable[[], Answer]) -> None:
    server = Server(first(), fine())

    with pytest.raises(AsrError):
        server.client().transcribe(b"recording")

    assert len(server.bodies) == 1


@pytest.mark.usefixtures("no_waiting")
def test_repeating_has_an_end() -> None:
    server = Server(*[failed(Overloaded(1.0)) for _ in range(9)])

    with pytest.raises(Overloaded):
        server.client(attempts=3).transcribe(b"recording")

    assert len(server.bodies) == 3


def test_the_client_waits_as_long_as_the_service_says() -> None:
    server = Server(failed(Overloaded(0.05)), fine())

    began_s = time.monotonic()
    server.client().transcribe(b"recording")

    assert 0.05 <= time.monotonic() - began_s < 1.0


def test_whether_the_service_is_ready_is_asked_once() -> None:
    server = Server(httpx.Response(503, json={"ready": False, "missing": ["vad"]}))

    assert server.client().ready() == {"ready": False, "missing": ["vad"]}


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (httpx.Response(200, text="<html>hello</html>"), "not a transcript"),
        (httpx.Response(200, json={"text": "今天"}), "not a transcript"),
        (httpx.Response(200, json=[]), "not a transcript"),
        (httpx.Response(502, text="<html>Bad Gateway</html>"), "502: <html>Bad Gateway"),
        (httpx.Response(401, json={"error": {"message": "no key"}}), "401: no key"),
    ],
)
def test_an_answer_of_another_server_is_an_error_with_a_reason(
    answer: httpx.Response, reason: str
) -> None:
    with pytest.raises(AsrError, match=reason):
        Server(answer).client().transcribe(b"recording")


@pytest.mark.parametrize(
    ("failure", "kind", "reason"),
    [
        (httpx.ConnectError("refused"), AsrError, "Nothing answers at http://service"),
        (httpx.ReadTimeout("slow"), TimedOut, "answer took longer"),
        (httpx.ReadError("reset"), AsrError, "connection to http://service failed"),
    ],
)
def test_a_failure_of_the_network_is_an_error_of_ours(
    failure: httpx.TransportError, kind: type[AsrError], reason: str
) -> None:
    with pytest.raises(kind, match=reason):
        Server(failure).client(attempts=1).transcribe(b"recording")


@pytest.mark.parametrize(
    ("stream", "reason"),
    [
        (to_sse({"type": "transcript.text.delta", "delta": "今天"}), "ended before"),
        ("data: {broken\n\n", "cannot be read"),
        (to_sse({"type": "transcript.text.delta"}), "cannot be read"),
        (to_sse({"no": "type"}), "cannot be read"),
    ],
)
def test_a_broken_stream_is_an_error_with_a_reason(stream: str, reason: str) -> None:
    server = Server(httpx.Response(200, text=stream))

    with pytest.raises(AsrError, match=reason):
        list(server.client().stream(b"recording"))


def test_events_of_a_newer_server_are_passed_over() -> None:
    lines = [{"type": "transcript.speaker"}, {"type": "transcript.text.delta", "delta": "今天"}]
    server = Server(httpx.Response(200, text="".join(map(to_sse, lines))))

    assert next(server.client().stream(b"recording")) == Delta("今天")


class Endless(httpx.SyncByteStream):
    """A stream that goes on until it is closed."""

    def __init__(self) -> None:
        self.is_closed = False

    def __iter__(self) -> Iterator[bytes]:
        while True:
            yield to_sse({"type": "transcript.text.delta", "delta": "今天"}).encode()

    def close(self) -> None:
        self.is_closed = True


def test_leaving_a_stream_early_closes_the_connection() -> None:
    endless = Endless()
    events = Server(httpx.Response(200, stream=endless)).client().stream(b"recording")

    next(events)
    assert not endless.is_closed
    events.close()  # type: ignore[attr-defined]

    assert endless.is_closed


@pytest.mark.parametrize(
    ("ask", "sent", "not_sent"),
    [
        (
            lambda client: client.transcribe(b"x"),
            [b"detailed_json"],
            [b'name="stream"', b"language"],
        ),
        (lambda client: client.transcribe(b"x", channel=0), [b'name="channel"\r\n\r\n0'], []),
        (
            lambda client: client.transcribe(b"x", word_times=True),
            [b'name="timestamp_granularities[]"\r\n\r\nword'],
            [],
        ),
        (
            lambda client: client.transcribe(b"x", hotwords=("一", "二")),
            [f'name="hotwords[]"\r\n\r\n{word}'.encode() for word in "一二"],
            [],
        ),
    ],
)
def test_the_form_has_what_was_asked_and_no_more(
    ask: Callable[[Client], object], sent: list[bytes], not_sent: list[bytes]
) -> None:
    server = Server(fine())

    ask(server.client())

    assert [part for part in sent if part not in server.bodies[0]] == []
    assert [part for part in not_sent if part in server.bodies[0]] == []
