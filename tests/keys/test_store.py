"""Keys, usage and the secret of sessions in SQLite and PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from deployments.database.connection import connect
from deployments.database.migrate import migrate
from deployments.database.tables import metadata
from deployments.keys import store
from deployments.keys.messages import Used
from deployments.keys.records import Key, KeyLimits
from deployments.keys.secrets import hash_of, new_key

T = TypeVar("T")
TEXT = new_key("0123456789ab")
TOM = Key(
    id="0123456789ab",
    name="汤姆",
    hash=hash_of(TEXT),
    scopes=("jobs",),
    limits=KeyLimits(max_concurrent=3, audio_s_per_day=0.5),
    expires_s=99.5,
)


def in_database(url: str, work: Callable[[AsyncEngine], Awaitable[T]]) -> T:
    async def run() -> T:
        engine = connect(url)
        await migrate(engine)
        found = await work(engine)
        await engine.dispose()
        return found

    return asyncio.run(run())


def test_a_key_comes_back_as_it_was_added(url: str) -> None:
    async def work(engine: AsyncEngine) -> list[store.Stored]:
        await store.add(engine, TOM, 10.0)
        return await store.every(engine)

    assert in_database(url, work) == [store.Stored(TOM, 10.0, None)]


def test_no_table_has_the_secret(url: str) -> None:
    async def work(engine: AsyncEngine) -> str:
        await store.add(engine, TOM, 10.0)
        async with engine.begin() as connection:
            tables = [await connection.execute(sa.select(t)) for t in metadata.sorted_tables]
            return str([list(rows) for rows in tables])

    found = in_database(url, work)

    assert TOM.hash in found
    assert TEXT.rpartition("0123456789ab-")[2] not in found


def test_a_key_is_revoked_once_and_then_stays_as_it_is(url: str) -> None:
    async def work(engine: AsyncEngine) -> tuple[list[bool], list[store.Stored]]:
        await store.add(engine, TOM, 10.0)
        done = [
            await store.revoke(engine, TOM.id, 20.0),
            await store.revoke(engine, TOM.id, 30.0),
            await store.rotate(engine, TOM.id, "new", 40.0),
            await store.revoke(engine, "unknown", 20.0),
        ]
        return done, await store.every(engine)

    done, stored = in_database(url, work)

    assert done == [True, False, False, False]
    assert [(one.key, one.revoked_s) for one in stored] == [(TOM, 20.0)]


def test_a_rotation_keeps_the_old_secret_for_its_time(url: str) -> None:
    async def work(engine: AsyncEngine) -> Key:
        await store.add(engine, TOM, 10.0)
        await store.rotate(engine, TOM.id, "new", 40.0)
        return (await store.every(engine))[0].key

    key = in_database(url, work)

    assert (key.id, key.hash, key.old_hash, key.old_until_s) == (TOM.id, "new", TOM.hash, 40.0)


def test_usage_is_added_up_by_day_key_and_model(url: str) -> None:
    async def work(engine: AsyncEngine) -> tuple[list[Used], list[Used]]:
        await store.add_usage(engine, [Used("2026-01-01", "a", "m", 10, 1)])
        more = [Used("2026-01-01", "a", "m", 5, 2), Used("2026-01-02", "a", "m", 1, 1)]
        await store.add_usage(engine, [*more, Used("2026-01-02", "b", "n", 7, 1)])
        span = {"since": "2026-01-02", "until": "2026-01-02"}
        every = await store.usage_of(engine, key=None, since="2026-01-01", until="2026-12-31")
        return list(every), list(await store.usage_of(engine, key="b", **span))

    every, one = in_database(url, work)

    assert [(u.day, u.key, u.audio_ms, u.n_requests) for u in every] == [
        ("2026-01-01", "a", 15, 3),
        ("2026-01-02", "a", 1, 1),
        ("2026-01-02", "b", 7, 1),
    ]
    assert one == [Used("2026-01-02", "b", "n", 7, 1)]


@pytest.mark.slow
def test_all_who_ask_at_once_get_one_session_secret(url: str) -> None:
    async def work(engine: AsyncEngine) -> set[str]:
        return set(await asyncio.gather(*(store.session_secret(engine) for _ in range(8))))

    secrets = in_database(url, work)

    assert len(secrets) == 1
    assert len(secrets.pop()) == 64
