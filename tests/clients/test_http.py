"""The HTTP clients: the requests they send, the retries, and answers from other servers."""

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
    render = FORMATS["detailed_json"].render
    return httpx.Response(200, text=render(PARAFORMER, ()))


def failed(error: AsrError) -> httpx.Response:
    status, headers, body = to_error_body(error)
    return httpx.Response(status, headers=headers, json=body)


class Server:
    """A server that gives these answers in turn, and keeps the bodies of the requests."""

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


# Functions, because a response can be read only once and each test needs a new one.
REPEATED: dict[str, Callable[[], Answer]] = {
    "refused": lambda: httpx.ConnectError("refused"),
    "no connection": lambda: httpx.ConnectTimeout("slow"),
    "busy": lambda: failed(Overloaded(1.0)),
    "loading": lambda: failed(ModelUnavailable("paraformer-zh", "it is loading")),
    "busy proxy": lambda: httpx.Response(503, text="Service Unavailable"),
    "busy gateway": lambda: httpx.Response(429, json={"message": "Too many requests"}),
    "reset": lambda: httpx.ReadError("reset"),
    "hung up": lambda: httpx.RemoteProtocolError("Server disconnected"),
    "bad gateway": lambda: httpx.Response(502, text="Bad Gateway"),
    "lost replica": lambda: httpx.Response(500, text="Internal Server Error"),
    "new proxy": lambda: httpx.Response(404, text="Not found. Ping http://.../-/routes."),
}
NOT_REPEATED: dict[str, Callable[[], Answer]] = {
    "no answer": lambda: httpx.ReadTimeout("slow"),
    "slow to take": lambda: httpx.WriteTimeout("slow"),
    "engine failed": lambda: failed(EngineFailed("The model failed.")),
    "timed out": lambda: failed(TimedOut("request", 9.0)),
    "busy for an hour": lambda: failed(Overloaded(3600.0)),
    "late gateway": lambda: httpx.Response(504, text="Gateway Time-out"),
    "late proxy": lambda: httpx.Response(408, text="Request timed out after 9.0s."),
    "not found": lambda: httpx.Response(404, json={"detail": "Not Found"}),
    "no page": lambda: httpx.Response(404, text="<html>Not Found</html>"),
    "another's 500": lambda: httpx.Response(500, json={"message": "it broke"}),
    "no protocol": lambda: httpx.UnsupportedProtocol("what is asr://?"),
}


@pytest.mark.usefixtures("no_waiting")
@pytest.mark.parametrize("first", REPEATED.values(), ids=REPEATED)
def test_a_request_is_retried_with_its_whole_body_if_nothing_was_done(
    first: Callable[[], Answer],
) -> None:
    server = Server(first(), fine())

    transcript = server.client().transcribe(io.BytesIO(b"recording"))

    assert transcript == PARAFORMER
    assert [b"recording" in body for body in server.bodies] == [True, True]


@pytest.mark.usefixtures("no_waiting")
@pytest.mark.parametrize("first", REPEATED.values(), ids=REPEATED)
def test_the_async_client_retries_too(first: Callable[[], Answer]) -> None:
    server = Server(first(), fine())

    transcript = run(AsyncClient(URL, transport=server.transport).transcribe(b"recording"))

    assert transcript == PARAFORMER


@pytest.mark.usefixtures("no_waiting")
@pytest.mark.parametrize("first", NOT_REPEATED.values(), ids=NOT_REPEATED)
def test_after_any_other_failure_there_is_no_retry(first: Callable[[], Answer]) -> None:
    server = Server(first(), fine())

    with pytest.raises(AsrError):
        server.client().transcribe(b"recording")

    assert len(server.bodies) == 1


@pytest.mark.usefixtures("no_waiting")
def test_the_number_of_retries_is_limited() -> None:
    server = Server(*[failed(Overloaded(1.0)) for _ in range(9)])

    with pytest.raises(Overloaded):
        server.client(attempts=3).transcribe(b"recording")

    assert len(server.bodies) == 3


def test_the_client_waits_as_long_as_the_service_says() -> None:
    server = Server(failed(Overloaded(0.05)), fine())

    began_s = time.monotonic()
    server.client().transcribe(b"recording")

    assert time.monotonic() - began_s >= 0.05


def test_a_question_for_readiness_is_not_retried() -> None:
    server = Server(httpx.Response(503, json={"ready": False, "missing": ["vad"]}))

    assert server.client().ready() == {"ready": False, "missing": ["vad"]}
    assert len(server.bodies) == 1


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (httpx.Response(200, text="<html>Log in to the network"), "answered 200: <html>Log in"),
        (httpx.Response(200, json={"status": "alive"}), "answered 200"),
        (httpx.Response(500, text="Internal Server Error"), "answered 500"),
        (httpx.Response(502, text=""), "answered 502"),
        (httpx.Response(503, text="Service Unavailable"), "is busy"),
    ],
)
def test_another_program_is_not_ready_and_its_answer_is_the_reason(
    answer: httpx.Response, reason: str
) -> None:
    ready = Server(answer).client().ready()

    assert not ready["ready"]
    assert reason in ready["reason"]


@pytest.mark.parametrize("body", ["<html>hello</html>", "[]", '{"object": "list"}'])
def test_a_list_of_models_from_another_server_raises_an_error(body: str) -> None:
    with pytest.raises(AsrError, match="not a list of models"):
        Server(httpx.Response(200, text=body)).client().models()


@pytest.mark.parametrize("url", ["http://[::1", "http://asr:port", "http://a\x00b"])
def test_what_is_no_url_is_an_error_with_a_reason(url: str) -> None:
    with pytest.raises(AsrError, match="is not a URL"):
        Client(url)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (httpx.Response(200, text="<html>hello</html>"), "not a transcript"),
        (httpx.Response(200, json={"text": "今天"}), "not a transcript"),
        (httpx.Response(200, json=[]), "not a transcript"),
        (httpx.Response(504, text="<html>Gateway Time-out"), "504: <html>Gateway Time-out"),
        (httpx.Response(401, json={"error": {"message": "no key"}}), "401: no key"),
    ],
)
def test_an_answer_from_another_server_raises_an_error_with_a_reason(
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
        (httpx.LocalProtocolError("Too little data"), AsrError, "changed while it was sent"),
        (httpx.UnsupportedProtocol("no"), AsrError, "http://service cannot be asked"),
    ],
)
def test_a_network_failure_raises_one_of_our_errors(
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
def test_a_broken_stream_raises_an_error_with_a_reason(stream: str, reason: str) -> None:
    server = Server(httpx.Response(200, text=stream))

    with pytest.raises(AsrError, match=reason):
        list(server.client().stream(b"recording"))


def test_unknown_events_of_a_newer_server_are_skipped() -> None:
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
def test_the_form_has_the_given_options_and_no_others(
    ask: Callable[[Client], object], sent: list[bytes], not_sent: list[bytes]
) -> None:
    server = Server(fine())

    ask(server.client())

    assert [part for part in sent if part not in server.bodies[0]] == []
    assert [part for part in not_sent if part in server.bodies[0]] == []
