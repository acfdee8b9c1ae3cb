"""Large uploads on their way to a router, and what is left of them however a request ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any, Self

import httpx
import pytest

from deployments.api.ingress import Front, create_app
from deployments.config import Limits
from deployments.core.errors import EngineFailed
from deployments.core.types import Done, StoredUpload, StreamEvent, TranscribeOptions, Upload
from deployments.request.stored import NotHere, mapped
from tests.api.senders import LARGE, Sender, form_of, left
from tests.clients.fakes import ENGINE
from tests.core.transcripts import PARAFORMER

SMALL = 1000


class Answer:
    """What a router's handle returns."""

    def __init__(self, upload: Upload | StoredUpload, outcome: Exception | None) -> None:
        self.is_stored, self._upload, self._outcome = (
            isinstance(upload, StoredUpload),
            upload,
            outcome,
        )
        self.was_cancelled = False

    async def events(self) -> AsyncIterator[StreamEvent]:
        await asyncio.sleep(0)
        if isinstance(self._outcome, TimeoutError):
            await asyncio.Event().wait()
        if self._outcome is not None:
            raise self._outcome
        self.read = mapped(self._upload).tobytes()
        yield Done(PARAFORMER)

    async def __aiter__(self) -> AsyncIterator[StreamEvent]:
        async for event in self.events():
            yield event

    async def _transcript(self) -> Any:
        return [event async for event in self.events()][-1].transcript  # type: ignore[union-attr]

    def __await__(self) -> Iterator[Any]:
        return self._transcript().__await__()

    def cancel(self) -> None:
        self.was_cancelled = True
        del self._upload


class Handle:
    """A router's handle. Each call has the next outcome; None is a transcript."""

    def __init__(self, *outcomes: Exception | None) -> None:
        self._outcomes = iter(outcomes)
        self.answers: list[Answer] = []
        self.transcribe = self.stream = self

    def options(self, *, stream: bool = False, _by_reference: bool = True) -> Self:
        return self

    def remote(
        self, upload: Upload | StoredUpload, options: TranscribeOptions, request: str
    ) -> Answer:
        self.answers.append(Answer(upload, next(self._outcomes)))
        return self.answers[-1]


def post(router: Handle, nearby: Handle, n_bytes: int, **fields: str) -> httpx.Response:
    front = Front(router, ENGINE, Limits(request_timeout_s=0.5), nearby=nearby)
    transport = httpx.ASGITransport(create_app(front), raise_app_exceptions=False)

    async def send() -> httpx.Response:
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            files = {"file": ("a.wav", bytes(n_bytes))}
            return await client.post("/v1/audio/transcriptions", data=fields, files=files)

    return asyncio.run(send())


@pytest.mark.parametrize("stream", ["false", "true"])
def test_a_large_upload_goes_to_a_router_of_this_node_as_a_file(spool: Path, stream: str) -> None:
    nearby = Handle(None)

    answer = post(Handle(), nearby, LARGE, stream=stream)

    assert (answer.status_code, nearby.answers[0].read) == (200, bytes(LARGE))
    assert nearby.answers[0].is_stored
    assert left(spool) == []


@pytest.mark.parametrize("stream", ["false", "true"])
def test_a_router_that_cannot_open_the_file_gets_the_bytes(spool: Path, stream: str) -> None:
    nearby, router = Handle(NotHere("elsewhere")), Handle(None)

    answer = post(router, nearby, LARGE, stream=stream)

    assert (answer.status_code, router.answers[0].read) == (200, bytes(LARGE))
    assert not router.answers[0].is_stored
    assert nearby.answers[0].was_cancelled
    assert left(spool) == []


@pytest.mark.parametrize("stream", ["false", "true"])
def test_a_small_upload_goes_to_any_router(spool: Path, stream: str) -> None:
    router = Handle(None)

    answer = post(router, Handle(), SMALL, stream=stream)

    assert (answer.status_code, router.answers[0].read) == (200, bytes(SMALL))
    assert left(spool) == []


@pytest.mark.parametrize("stream", ["false", "true"])
@pytest.mark.parametrize(
    ("outcomes", "status"),
    [
        ((EngineFailed("broken"),), 500),
        ((TimeoutError(),), 504),
        ((ValueError("unforeseen"),), 500),
        ((NotHere("elsewhere"), EngineFailed("broken")), 500),
    ],
)
def test_no_file_is_left_of_a_request_that_fails(
    spool: Path, stream: str, outcomes: tuple[Exception, ...], status: int
) -> None:
    handle = Handle(*outcomes)

    answer = post(handle, handle, LARGE, stream=stream)

    assert answer.status_code == status
    assert all(call.was_cancelled for call in handle.answers)
    assert left(spool) == []


@pytest.mark.parametrize(
    "field", [{"response_format": "xml"}, {"channel": "-1"}, {"itn": "perhaps"}]
)
def test_no_file_is_left_of_a_form_that_is_refused(spool: Path, field: dict[str, str]) -> None:
    answer = post(Handle(), Handle(), LARGE, **field)

    assert answer.status_code == 400
    assert left(spool) == []


@pytest.mark.parametrize("stream", [False, True])
def test_no_file_is_left_when_the_client_leaves(spool: Path, stream: bool) -> None:
    handle = Handle(TimeoutError())
    front = Front(handle, ENGINE, Limits())

    async def leave() -> list[str]:
        form = await form_of(Sender(LARGE))
        work: AsyncGenerator[StreamEvent] = front._events(form, "id")
        async with aclosing(work):
            waiting = asyncio.ensure_future(anext(work) if stream else front._answer(form, "id"))
            await asyncio.sleep(0.05)
            meanwhile = left(spool)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
        return meanwhile

    assert len(asyncio.run(leave())) == 1
    assert handle.answers[0].was_cancelled
    assert left(spool) == []
