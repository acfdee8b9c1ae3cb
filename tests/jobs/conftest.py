"""A database with the tables, on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from deployments.database.connection import connect
from deployments.database.migrate import migrate
from tests.database.conftest import server, url

__all__ = ["server", "url"]  # fixtures

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
