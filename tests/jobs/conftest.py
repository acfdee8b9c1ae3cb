"""A database with the tables, on SQLite and on PostgreSQL; objects in a folder and in S3."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from benchmarks.material.random_models import write_paraformer, write_punctuation
from deployments.database.connection import connect
from deployments.database.migrate import migrate
from deployments.engines.ct_transformer.engine import CtTransformer
from deployments.engines.paraformer.engine import Paraformer
from deployments.engines.protocols import EngineSettings
from deployments.jobs import worker as worker_module
from tests.database.conftest import server, url
from tests.jobs.objects.stores import bucket, objects, s3_server

__all__ = ["bucket", "objects", "s3_server", "server", "url"]  # fixtures

T = TypeVar("T")
Work = Callable[[AsyncEngine], Awaitable[T]]


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[AsyncEngine]:
    engine = connect(url)
    try:
        await migrate(engine)
        yield engine
    finally:
        await engine.dispose()


@pytest.fixture
def in_database(url: str) -> Callable[[Work[T]], T]:
    """Runs an async function with the database."""

    async def run(work: Work[T]) -> T:
        async with opened(url) as engine:
            return await work(engine)

    return lambda work: asyncio.run(run(work))


@pytest.fixture(autouse=True)
def _in_haste(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "POLL_S", 0.01)
    monkeypatch.setattr(worker_module, "BEAT_S", 0.05)
    monkeypatch.setattr(worker_module, "FIRST_RETRY_S", 0.01)
    monkeypatch.setattr("deployments.objects.RETRY_S", 0.2)


@pytest.fixture(scope="module")
def paraformer(tmp_path_factory: pytest.TempPathFactory) -> Paraformer:
    return Paraformer(write_paraformer(tmp_path_factory.mktemp("asr")), EngineSettings("tiny"))


@pytest.fixture(scope="module")
def punctuator(tmp_path_factory: pytest.TempPathFactory) -> CtTransformer:
    return CtTransformer(write_punctuation(tmp_path_factory.mktemp("punc")), EngineSettings())
