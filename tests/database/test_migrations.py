"""The migrations make the tables that the code uses, also where several processes start at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TypeVar

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from deployments.database.connection import connect
from deployments.database.migrate import migrate
from deployments.database.tables import metadata

T = TypeVar("T")


def in_database(url: str, work: Callable[[sa.Connection], T]) -> T:
    async def run() -> T:
        engine = connect(url)
        async with engine.begin() as connection:
            found = await connection.run_sync(work)
        await engine.dispose()
        return found

    return asyncio.run(run())


def open_and_migrate(url: str) -> None:
    async def run() -> None:
        engine = connect(url)
        await migrate(engine)
        await engine.dispose()

    asyncio.run(run())


def differences(connection: sa.Connection) -> list[object]:
    return list(compare_metadata(MigrationContext.configure(connection), metadata))


def test_the_migrations_make_the_tables_of_the_code(url: str) -> None:
    open_and_migrate(url)

    assert in_database(url, differences) == []


def test_a_database_of_this_version_is_left_as_it_is(url: str) -> None:
    open_and_migrate(url)
    open_and_migrate(url)

    assert in_database(url, differences) == []


@pytest.mark.slow
def test_processes_that_start_at_once_migrate_once(url: str) -> None:
    with ProcessPoolExecutor(4, mp_context=get_context("spawn")) as pool:
        list(pool.map(open_and_migrate, [url] * 4))

    assert in_database(url, differences) == []


@pytest.mark.parametrize("url", ["mysql://root:hush@localhost/x", "hush", "sqlite+x:hush"])
def test_another_kind_of_database_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ValueError, match="begins with") as caught:
        connect(url)

    assert "hush" not in str(caught.value)
