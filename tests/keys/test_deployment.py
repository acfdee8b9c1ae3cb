"""The deployment without Ray: keys that change, usage that lasts, and a place that fails."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from deployments.core.errors import LimitExceeded, Overloaded, Unauthorized
from deployments.keys import deployment, store
from deployments.keys.deployment import Keys
from deployments.keys.messages import Left
from deployments.keys.records import Key
from deployments.keys.sources import opened
from deployments.service_settings import KeysSettings, Storage

KEY = Key(id="0123456789ab", name="tom", hash="hash")
DAYS = ("2000-01-01", "2999-12-31")


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Storage:
    """A database of its own."""
    monkeypatch.delenv("PARAFORMER_DATABASE_URL", raising=False)
    monkeypatch.delenv("PARAFORMER_API_KEYS", raising=False)
    return Storage(data_dir=tmp_path)


@asynccontextmanager
async def running(
    storage: Storage, *, listen_s: float = 0.0, **settings: Any
) -> AsyncIterator[Keys]:
    """The deployment, by default with its database."""
    chosen = KeysSettings(**({"database": True} | settings))
    keys = Keys(chosen, storage, listen_s=listen_s)
    yield keys
    await keys.close()


async def add(storage: Storage, key: Key = KEY) -> None:
    engine = await opened(storage)
    await store.add(engine, key, time.time())
    await engine.dispose()


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(10):
        while not await holds():  # noqa: ASYNC110 - another process might write it
            await asyncio.sleep(0.05)


def test_a_key_is_there_once_it_is_added_and_gone_once_it_is_revoked(storage: Storage) -> None:
    async def run() -> None:
        async with running(storage) as keys:
            assert (await keys.tell("a", {}, [], 0)).keys == {}

            await add(storage)
            await until(lambda: told(keys, {KEY.id}))
            engine = await opened(storage)
            await store.revoke(engine, KEY.id, time.time())
            await engine.dispose()
            await until(lambda: told(keys, set()))

            with pytest.raises(Unauthorized):
                await keys.enter("a", "permit", KEY.id, 0)

    async def told(keys: Keys, ids: set[str]) -> bool:
        return set((await keys.tell("a", {}, [], 0)).keys or {}) == ids

    asyncio.run(run())


def test_an_ingress_that_knows_the_keys_is_not_told_them_again(storage: Storage) -> None:
    async def run() -> None:
        await add(storage)
        async with running(storage) as keys:
            first = await keys.tell("a", {}, [], 0)
            second = await keys.tell("a", {}, [], first.revision)

        assert first.keys == {KEY.id: KEY}
        assert len(first.session_secret) == 64
        assert second.keys is None

    asyncio.run(run())


def test_usage_and_the_session_secret_outlive_the_replica(storage: Storage) -> None:
    async def run() -> None:
        await add(storage)
        async with running(storage) as first:
            secret = (await first.tell("a", {}, [], 0)).session_secret
            await first.leave(Left("one", KEY.id, "paraformer-zh", 61_000))
            await until(lambda: written(storage, 61_000))

        async with running(storage, audio_s_per_day=60) as second:
            same = (await second.tell("a", {}, [], 0)).session_secret
            with pytest.raises(LimitExceeded, match="a day"):
                await second.enter("a", "permit", KEY.id, 0)
            ((used, name),) = await second.usage(None, *DAYS)

        assert same == secret
        assert (used.audio_ms, used.n_requests, name) == (61_000, 1, "tom")

    async def written(storage: Storage, audio_ms: int) -> bool:
        engine = await opened(storage)
        used = await store.usage_of(engine, key=None, since=DAYS[0], until=DAYS[1])
        await engine.dispose()
        return [one.audio_ms for one in used] == [audio_ms]

    asyncio.run(run())


def test_without_a_database_usage_lasts_as_long_as_the_replica(storage: Storage) -> None:
    async def run() -> None:
        async with running(storage, database=False, required=True) as keys:
            await keys.leave(Left("one", KEY.id, "m", 1000))
            await keys.leave(Left("two", KEY.id, "m", 1000))

            ((used, _),) = await keys.usage(KEY.id, *DAYS)
            assert (used.audio_ms, used.n_requests) == (2000, 2)
            assert await keys.usage("other", *DAYS) == []

    asyncio.run(run())


def test_a_new_replica_first_listens(storage: Storage) -> None:
    async def run() -> None:
        await add(storage)
        began_s = time.monotonic()

        async with running(storage, listen_s=0.3) as keys:
            await keys.enter("a", "permit", KEY.id, 0)

        assert time.monotonic() - began_s >= 0.3

    asyncio.run(run())


def test_without_its_keys_nobody_is_told_anything(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deployment, "READY_TIMEOUT_S", 0.1)

    async def run() -> None:
        async with running(storage, database=False, file=tmp_path / "missing") as keys:
            with pytest.raises(Overloaded):
                await keys.tell("a", {}, [], 0)

    asyncio.run(run())
