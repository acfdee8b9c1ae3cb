"""What clients do with jobs: submit once, read, list in pages, cancel, delete."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from deployments.core.errors import BadRequest, Conflict, LimitExceeded, UnknownJob
from deployments.core.jobs.model import NewFile, NewJob, Query, new_id
from deployments.core.types import Hints, TranscribeOptions
from deployments.jobs.leases import Leases
from deployments.jobs.store import OPTIONS, Store

Run = Callable[[Any], Any]
FILE = NewFile("a.wav", object_key="jobs/x/0/audio", n_bytes=3, sha256="0" * 64)


def job(**changes: Any) -> NewJob:
    made = NewJob(new_id("job"), (FILE,), TranscribeOptions(), body_hash="a" * 64)
    return replace(made, **changes)


def test_a_job_is_read_as_it_was_submitted(in_database: Run) -> None:
    options = TranscribeOptions(hints=Hints(hotwords=("魔搭", "百炼")), itn=True, channel=1)
    new = job(options=options, name="周会", labels={"team": "语音"}, owner="key_1", priority=5)

    async def work(engine: AsyncEngine) -> Any:
        store = Store(engine, max_waiting=10)
        assert await store.submit(new) == (new.id, True)
        return await store.find(new.id, "key_1")

    row, (file,) = in_database(work)

    assert OPTIONS.validate_json(row.options) == options
    assert (row.name, row.state, row.labels) == ("周会", "queued", '{"team": "语音"}')
    assert (file.name, file.object_key, file.priority) == ("a.wav", FILE.object_key, 5)


def test_the_same_idempotency_key_gives_the_same_job(in_database: Run) -> None:
    first, second = job(idempotency_key="k"), job(idempotency_key="k")
    other = job(idempotency_key="k", body_hash="b" * 64)
    stranger = job(idempotency_key="k", owner="key_2")

    async def work(engine: AsyncEngine) -> Any:
        store = Store(engine, max_waiting=10)
        got = await asyncio.gather(store.submit(first), store.submit(second))
        with pytest.raises(Conflict):
            await store.submit(other)
        return got, await store.submit(stranger)

    ((one, new_one), (two, new_two)), of_stranger = in_database(work)

    assert one == two
    assert {new_one, new_two} == {True, False}
    assert of_stranger == (stranger.id, True)


def test_another_owner_sees_no_job(in_database: Run) -> None:
    new = job(owner="key_1")

    async def work(engine: AsyncEngine) -> None:
        store = Store(engine, max_waiting=10)
        await store.submit(new)
        with pytest.raises(UnknownJob):
            await store.find(new.id, "key_2")
        with pytest.raises(UnknownJob):
            await store.cancel(new.id, "key_2")
        with pytest.raises(UnknownJob):
            await store.delete(new.id, "key_2")
        assert (await store.page("key_2", Query()))[0] == []
        assert (await store.find(new.id, None))[0].id == new.id

    in_database(work)


def test_pages_hold_every_job_once_from_the_newest_on(in_database: Run) -> None:
    new = [job() for _ in range(7)]

    async def work(engine: AsyncEngine) -> list[str]:
        store, found, cursor = Store(engine, max_waiting=10), [], ""
        for one in new:
            await store.submit(one)
        while True:
            page, cursor = await store.page("", Query(limit=3, after=cursor or None))
            found += [row.id for row, _ in page]
            if not cursor:
                return found

    assert in_database(work) == [one.id for one in reversed(new)]


def test_a_list_has_the_states_and_times_that_are_asked_for(in_database: Run) -> None:
    kept, canceled = job(), job()

    async def work(engine: AsyncEngine) -> Any:
        store = Store(engine, max_waiting=10)
        await store.submit(kept)
        await store.submit(canceled)
        await store.cancel(canceled.id, "")
        created_s = (await store.find(canceled.id, ""))[0].created_s
        return (
            await store.page("", Query(states=("canceled",))),
            await store.page("", Query(created_before_s=created_s)),
            await store.page("", Query(created_after_s=created_s)),
        )

    (by_state, _), (before, _), (after, _) = in_database(work)

    assert [row.id for row, _ in by_state] == [canceled.id]
    assert [row.id for row, _ in before] == [kept.id]
    assert after == []


def test_a_cursor_that_nobody_gave_is_refused(in_database: Run) -> None:
    async def work(engine: AsyncEngine) -> None:
        with pytest.raises(BadRequest, match="cursor"):
            await Store(engine, max_waiting=10).page("", Query(after="!!"))

    in_database(work)


def test_too_many_waiting_files_are_refused(in_database: Run) -> None:
    three = job(files=(FILE, FILE, FILE))

    async def work(engine: AsyncEngine) -> None:
        store = Store(engine, max_waiting=4)
        await store.submit(three)
        await store.submit(job())
        with pytest.raises(LimitExceeded):
            await store.submit(job())
        await store.submit(job(owner="key_2"))  # another's files do not count
        await store.cancel(three.id, "")
        await store.submit(job())

    in_database(work)


def test_a_deleted_job_leaves_no_row_and_names_its_objects(in_database: Run) -> None:
    new = job()

    async def work(engine: AsyncEngine) -> Any:
        store = Store(engine, max_waiting=1)
        await store.submit(new)
        keys = await store.delete(new.id, "")
        with pytest.raises(UnknownJob):
            await store.find(new.id, "")
        return keys, await store.known_of([new.id])

    assert in_database(work) == ([FILE.object_key], set())


def test_the_place_in_the_queue_counts_priorities_and_ages(in_database: Run) -> None:
    old, urgent, young = job(), job(priority=1), job(files=(FILE, FILE))

    async def work(engine: AsyncEngine) -> list[int]:
        store = Store(engine, max_waiting=10)
        for one in (old, urgent, young):
            await store.submit(one)
        found = [await store.find(one.id, "") for one in (urgent, old, young)]
        return [(await store.ahead(file))[0] for _, of_job in found for file in of_job]

    assert in_database(work) == [0, 1, 2, 3]


def test_the_audio_that_goes_before_counts_what_is_worked_at(in_database: Run) -> None:
    hour = replace(FILE, duration_ms=3_600_000)
    first, second, third = (job(files=(hour,)) for _ in range(3))

    async def work(engine: AsyncEngine) -> Any:
        store, leases = Store(engine, max_waiting=10), Leases(engine, "w", lease_s=60)
        for one in (first, second, third):
            await store.submit(one)
        lease = await leases.take()
        assert lease is not None
        await leases.prolong(lease, done_ms=600_000)
        return [await store.ahead((await store.find(one.id, ""))[1][0]) for one in (second, third)]

    assert in_database(work) == [(0, 3_000_000), (1, 6_600_000)]
