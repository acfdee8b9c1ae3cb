"""A file has one worker at a time, and only the newest lease may write."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from deployments.core.jobs.model import NewFile
from deployments.jobs.leases import Lease, LeaseLost, Leases
from deployments.jobs.store import Store
from tests.jobs.conftest import opened
from tests.jobs.test_store import FILE, job

Run = Callable[[Any], Any]


async def submitted(engine: AsyncEngine, *files: NewFile) -> tuple[Store, str]:
    store, new = Store(engine, max_waiting=1000), job(files=files or (FILE,))
    await store.submit(new)
    return store, new.id


async def taken(leases: Leases) -> Lease:
    lease = await leases.take()
    assert lease is not None
    return lease


def test_a_file_is_leased_once_and_goes_through_its_states(in_database: Run) -> None:
    async def work(engine: AsyncEngine) -> list[str]:
        store, name = await submitted(engine)
        leases, seen = Leases(engine, "w", lease_s=60), []
        seen.append((await store.find(name, ""))[0].state)
        lease = await taken(leases)
        assert await leases.take() is None
        seen.append((await store.find(name, ""))[0].state)
        await leases.complete(lease)
        seen.append((await store.find(name, ""))[0].state)
        return seen

    assert in_database(work) == ["queued", "processing", "completed"]


def test_an_overtaken_worker_can_write_nothing(in_database: Run) -> None:
    async def work(engine: AsyncEngine) -> Any:
        store, name = await submitted(engine)
        dead, alive = Leases(engine, "dead", lease_s=0.0), Leases(engine, "alive", lease_s=60)
        old = await taken(dead)
        await asyncio.sleep(0.01)
        new = await taken(alive)
        row = [{"index": 0, "start_ms": 0, "end_ms": 10}]
        for writing in (
            dead.prolong(old),
            dead.plan(old, row, is_all=True),
            dead.keep(old, {0: "x"}, {}),
            dead.forget(old),
            dead.complete(old),
            dead.fail(old, "c", "m"),
            dead.give_back(old),
        ):
            with pytest.raises(LeaseLost):
                await writing
        await alive.plan(new, row, is_all=True)
        await alive.keep(new, {}, {0: "text"})
        return new, await store.finals(name, 0, 0)

    new, finals = in_database(work)

    assert (new.epoch, new.n_failures) == (2, 1)  # the death of a worker is a failure
    assert finals == ["text"]


def test_a_file_that_is_given_back_waits_its_time(in_database: Run) -> None:
    async def work(engine: AsyncEngine) -> Any:
        await submitted(engine)
        leases = Leases(engine, "w", lease_s=60)
        await leases.give_back(await taken(leases), wait_s=60)
        at_once = await leases.take()
        return at_once

    assert in_database(work) is None


def test_a_canceled_file_stops_its_worker_and_counts_no_longer(in_database: Run) -> None:
    async def work(engine: AsyncEngine) -> Any:
        store, name = await submitted(engine, FILE, FILE)
        leases = Leases(engine, "w", lease_s=60)
        lease = await taken(leases)
        await store.cancel(name, "")
        with pytest.raises(LeaseLost):
            await leases.prolong(lease)
        return (await store.find(name, ""))[0].state, await leases.take()

    assert in_database(work) == ("canceled", None)


def test_a_batch_is_completed_only_if_every_file_is(in_database: Run) -> None:
    async def work(engine: AsyncEngine) -> Any:
        store, name = await submitted(engine, FILE, FILE)
        leases = Leases(engine, "w", lease_s=60)
        await leases.complete(await taken(leases))
        before = (await store.find(name, ""))[0].state
        await leases.fail(await taken(leases), "invalid_audio", "No sound.")
        row, (first, second) = await store.find(name, "")
        return before, row.state, first.state, second.state, second.error

    expected = ("processing", "failed", "completed", "failed", "No sound.")
    assert in_database(work) == expected


def test_files_of_one_job_that_end_at_once_end_the_job(in_database: Run) -> None:
    async def work(engine: AsyncEngine) -> str:
        store, name = await submitted(engine, *[FILE] * 8)
        leases = Leases(engine, "w", lease_s=60)
        held = [await taken(leases) for _ in range(8)]
        await asyncio.gather(*(leases.complete(lease) for lease in held))
        return str((await store.find(name, ""))[0].state)

    assert in_database(work) == "completed"


def test_workers_that_hurry_lease_every_file_once(url: str) -> None:
    async def worker(name: str, seen: Counter[int]) -> None:
        async with opened(url) as engine:
            leases = Leases(engine, name, lease_s=60)
            while (lease := await leases.take()) is not None:
                seen[lease.number] += 1
                await leases.complete(lease)

    async def run() -> Counter[int]:
        seen: Counter[int] = Counter()
        async with opened(url) as engine:
            await submitted(engine, *[FILE] * 60)
        await asyncio.gather(*(worker(f"w{i}", seen) for i in range(6)))
        return seen

    assert asyncio.run(run()) == Counter(range(60))


def test_a_file_that_has_not_begun_in_time_expires(in_database: Run) -> None:
    async def work(engine: AsyncEngine) -> Any:
        store = Store(engine, max_waiting=10)
        late, patient = job(expires_after_s=0.0), job(expires_after_s=60.0)
        await store.submit(late)
        await store.submit(patient)
        await asyncio.sleep(0.01)
        await Leases(engine, "w", lease_s=60).expire()
        _, (file,) = await store.find(late.id, "")
        return file.state, file.error_code, (await store.find(patient.id, ""))[0].state

    assert in_database(work) == ("failed", "expired", "queued")


def test_an_attempt_that_made_progress_is_no_failure(in_database: Run) -> None:
    async def work(engine: AsyncEngine) -> list[int]:
        await submitted(engine)
        dead, counts = Leases(engine, "dead", lease_s=0.0), []
        for index in range(4):
            lease = await taken(dead)
            counts.append(lease.n_failures)
            await dead.plan(lease, [{"index": index, "start_ms": 0, "end_ms": 1}], is_all=False)
            if index < 2:
                await dead.keep(lease, {index: "{}"}, {})
            await asyncio.sleep(0.01)
        return counts

    assert in_database(work) == [0, 1, 1, 2]  # the last two attempts kept nothing
