"""The contract that every client keeps: the same methods, types and errors over any transport."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, Unpack

import pytest

from clients.http import AsyncClient, Client
from clients.ray_handle import Transcriber
from clients.request import Asked, Source
from deployments.core.errors import AsrError, BadRequest
from deployments.core.types import (
    Delta,
    Done,
    Hints,
    Progress,
    StreamEvent,
    TranscribeOptions,
    Transcript,
)
from tests.clients.fakes import AsgiTransport, FakeHandle, FakeRouter, failing, run
from tests.core.test_wire import ERRORS
from tests.core.transcripts import PARAFORMER

URL = "http://service"


class Transport(Protocol):
    """The methods that every client has."""

    def transcribe(self, source: Source, **asked: Unpack[Asked]) -> Transcript: ...
    def stream(self, source: Source, **asked: Unpack[Asked]) -> Iterator[StreamEvent]: ...
    def models(self) -> list[dict[str, Any]]: ...
    def ready(self) -> dict[str, Any]: ...


class Blocking:
    """An AsyncClient with blocking methods, so that the same tests fit all clients."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    def transcribe(self, source: Source, **asked: Unpack[Asked]) -> Transcript:
        transcript: Transcript = run(self._client.transcribe(source, **asked))
        return transcript

    def stream(self, source: Source, **asked: Unpack[Asked]) -> Iterator[StreamEvent]:
        events = self._client.stream(source, **asked)
        with asyncio.Runner() as runner:
            while (event := runner.run(_next(events))) is not None:
                yield event

    def models(self) -> list[dict[str, Any]]:
        models: list[dict[str, Any]] = run(self._client.models())
        return models

    def ready(self) -> dict[str, Any]:
        ready: dict[str, Any] = run(self._client.ready())
        return ready


async def _next(events: AsyncGenerator[StreamEvent]) -> StreamEvent | None:
    return await anext(events, None)


TRANSPORTS: dict[str, Callable[[FakeRouter], Transport]] = {
    "http": lambda router: Client(URL, attempts=1, transport=AsgiTransport(router)),
    "async http": lambda router: Blocking(
        AsyncClient(URL, attempts=1, transport=AsgiTransport(router))
    ),
    "ray handle": lambda router: Transcriber(handle=FakeHandle(router)),
}


@pytest.fixture
def router() -> FakeRouter:
    return FakeRouter()


@pytest.fixture(params=TRANSPORTS)
def transport(request: pytest.FixtureRequest, router: FakeRouter) -> Transport:
    return TRANSPORTS[request.param](router)


def expected(n_bytes: int) -> Transcript:
    return replace(PARAFORMER, duration_ms=PARAFORMER.duration_ms + n_bytes)


def test_a_recording_gives_the_routers_transcript(transport: Transport) -> None:
    assert transport.transcribe(b"12345") == expected(5)


def test_every_option_arrives(transport: Transport, router: FakeRouter) -> None:
    transport.transcribe(
        b"12345",
        language="zh",
        prompt="会议",
        hotwords=("集群", "调度"),
        model="paraformer-zh",
        word_times=True,
        channel=0,
        itn=True,
    )

    hints = Hints("zh", "会议", ("集群", "调度"))
    assert router.seen == [TranscribeOptions("paraformer-zh", hints, True, 0, True)]


def test_hotwords_in_one_string_are_refused(transport: Transport, router: FakeRouter) -> None:
    with pytest.raises(BadRequest) as caught:
        transport.transcribe(b"12345", hotwords="集群")

    assert caught.value.param == "hotwords"
    assert router.seen == []


def test_a_hotword_of_two_words_arrives_as_one(transport: Transport, router: FakeRouter) -> None:
    transport.transcribe(b"12345", hotwords=["New York", "达摩院"])

    assert router.seen[0].hints.hotwords == ("New York", "达摩院")


def test_options_that_are_not_given_are_the_services_defaults(
    transport: Transport, router: FakeRouter
) -> None:
    transport.transcribe(b"12345")

    assert router.seen == [TranscribeOptions()]


def test_an_unknown_option_is_a_type_error(transport: Transport) -> None:
    with pytest.raises(TypeError, match="temperature"):
        transport.transcribe(b"12345", temperature=0.5)  # type: ignore[call-arg]


class Pipe(io.BytesIO):
    """A file that cannot be read twice, such as standard input."""

    def seekable(self) -> bool:
        return False

    def seek(self, *_: object) -> int:
        raise io.UnsupportedOperation("seek")


def test_an_open_file_is_read_from_its_beginning_and_left_open(
    transport: Transport, tmp_path: Path
) -> None:
    path = tmp_path / "录音.wav"
    path.write_bytes(b"1234567")

    with path.open("rb") as file:
        file.read(3)

        assert transport.transcribe(file) == expected(7)
        assert not file.closed


@pytest.mark.parametrize("kind", [Path, str])
def test_a_file_may_be_given_by_its_path(
    transport: Transport, tmp_path: Path, kind: Callable[[Path], Source]
) -> None:
    path = tmp_path / "录音.wav"
    path.write_bytes(b"1234567")

    assert transport.transcribe(kind(path)) == expected(7)


def test_a_pipe_may_be_transcribed(transport: Transport) -> None:
    assert transport.transcribe(Pipe(b"123")) == expected(3)


def test_a_file_that_is_not_there_is_an_os_error(transport: Transport, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        transport.transcribe(tmp_path / "none.wav")


@pytest.mark.parametrize("number", range(len(ERRORS)))
def test_an_error_of_the_service_is_raised_unchanged(transport: Transport, number: int) -> None:
    error, _, _ = ERRORS[number]

    with pytest.raises(AsrError) as caught:
        transport.transcribe(failing(number))

    assert type(caught.value) is type(error)
    assert caught.value.args == error.args
    assert "10.0.0.1" not in str(caught.value)


def test_a_stream_has_every_event_in_order(transport: Transport) -> None:
    assert list(transport.stream(b"12345")) == [
        Delta("今天天气很好，我们去公园。"),
        Progress(3_200, 5_200),
        Delta("你 hello world 吗？"),
        Progress(5_200, 5_200),
        Done(expected(5)),
    ]


@pytest.mark.parametrize("after_events", [0, 2])
@pytest.mark.parametrize("number", [0, 6])
def test_an_error_in_a_stream_is_raised_after_its_events(
    transport: Transport, number: int, after_events: int
) -> None:
    events = transport.stream(failing(number, after_events=after_events))
    received = [next(events) for _ in range(after_events)]

    with pytest.raises(AsrError) as caught:
        next(events)

    assert len(received) == after_events
    assert type(caught.value) is type(ERRORS[number][0])
    assert caught.value.args == ERRORS[number][0].args


def test_models_are_listed(transport: Transport) -> None:
    assert [model["id"] for model in transport.models()] == ["paraformer-zh"]


@pytest.mark.parametrize("is_ready", [True, False])
def test_ready_says_whether_the_service_is_ready(
    transport: Transport, router: FakeRouter, is_ready: bool
) -> None:
    router.is_ready = is_ready

    assert transport.ready()["ready"] is is_ready
    assert transport.ready()["pools"]["cpu"]["replicas"] == 1
