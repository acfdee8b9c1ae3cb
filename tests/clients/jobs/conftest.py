"""A service with jobs, and every client of it behind the same blocking methods."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from clients.http import AsyncClient, Client
from clients.jobs.model import JobEvent
from clients.ray_handle import Transcriber
from tests.clients.jobs.service import JobService, job_service


class BlockingJobs:
    """An AsyncClient's jobs with blocking methods, so that the same tests fit all clients."""

    def __init__(self, client: AsyncClient, run: Callable[[Any], Any]) -> None:
        self._jobs, self._run = client.jobs, run

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._jobs, name)
        return lambda *arguments, **asked: self._run(method(*arguments, **asked))

    def events(self, *arguments: Any, **asked: Any) -> Iterator[JobEvent]:
        events = self._jobs.events(*arguments, **asked)
        while (event := self._run(_next(events))) is not None:
            yield event


async def _next(events: Any) -> JobEvent | None:
    event: JobEvent | None = await anext(events, None)
    return event


@contextmanager
def over_http(service: JobService) -> Iterator[Any]:
    with Client(service.url) as client:
        yield client.jobs


@contextmanager
def over_async_http(service: JobService) -> Iterator[Any]:
    with asyncio.Runner() as runner:
        client = AsyncClient(service.url)
        yield BlockingJobs(client, runner.run)
        runner.run(client.aclose())


@contextmanager
def over_a_handle(service: JobService) -> Iterator[Any]:
    yield Transcriber(handle=object(), jobs_handle=service.handle).jobs


TRANSPORTS: dict[str, Any] = {
    "http": over_http,
    "async http": over_async_http,
    "ray handle": over_a_handle,
}
HTTP = ["http", "async http"]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JobService]:
    """A service for the tests of a module that only add jobs."""
    with job_service(tmp_path_factory.mktemp("jobs")) as service:
        yield service


@pytest.fixture
def service(tmp_path: Path) -> Iterator[JobService]:
    """A service of the test's own."""
    with job_service(tmp_path / "data") as service:
        yield service


@pytest.fixture
def entered() -> Iterator[ExitStack]:
    """Closes what a test has opened."""
    with ExitStack() as stack:
        yield stack
