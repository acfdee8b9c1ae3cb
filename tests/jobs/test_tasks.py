"""The list of tasks: the status in SQL is that of Python, and pages are numbered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations_with_replacement
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from deployments.core.jobs.model import NewFile, NewJob, State, new_id
from deployments.core.jobs.tasks import STATUSES, TaskQuery, task_status
from deployments.core.types import TranscribeOptions
from deployments.jobs.leases import Lease, Leases
from deployments.jobs.store import Store
from deployments.jobs.tasks import tasks_of

Run = Callable[[Any], Any]
STATES: tuple[State, ...] = ("completed", "failed", "processing", "canceled", "queued")


async def submitted(engine: AsyncEngine, n_files: int, owner: str = "") -> str:
    files = tuple(NewFile(f"{i}.wav", url=f"https://example.com/{i}") for i in range(n_files))
    job = NewJob(new_id("job"), files, TranscribeOptions(), "a" * 64, owner=owner)
    return (await Store(engine, max_waiting=1000).submit(job))[0]


async def job_with(engine: AsyncEngine, states: Sequence[State]) -> str:
    """A job whose files come into these states as they do in life. Canceled ones come last."""
    job = await submitted(engine, len(states))
    leases = Leases(engine, "w", lease_s=60)
    begun = [state for state in states if state in ("completed", "failed", "processing")]
    for state in begun:
        lease = await leases.take()
        assert isinstance(lease, Lease)
        if state == "completed":
            await leases.complete(lease)
        if state == "failed":
            await leases.fail(lease, "invalid_audio", "No sound.")
    if "canceled" in states:
        await Store(engine, max_waiting=1000).cancel(job, None)
    while (left := await leases.take()) is not None:  # so that no later job finds it
        await leases.give_back(left, wait_s=600)
    return job


def test_the_status_in_the_database_is_that_of_the_task(in_database: Run) -> None:
    mixes = [
        mix
        for n_files in (1, 2, 3)
        for mix in combinations_with_replacement(STATES, n_files)
        if not ("canceled" in mix and {"queued", "processing"} & {*mix})
    ]

    async def work(engine: AsyncEngine) -> Any:
        jobs = [await job_with(engine, mix) for mix in mixes]
        by_status = {}
        for status in STATUSES:
            query = TaskQuery(page_size=100, status=status)
            found, n_tasks = await tasks_of(engine, None, query)
            assert n_tasks == len(found)
            for row, files in found:
                by_status[row.id] = status
                assert task_status(row.state, [file.state for file in files]) == status
        return by_status.keys() == set(jobs)

    assert in_database(work)


def test_a_page_has_its_jobs_their_files_and_how_many_there_are(in_database: Run) -> None:
    async def work(engine: AsyncEngine) -> Any:
        mine = [await submitted(engine, 2, "key_1") for _ in range(5)]
        theirs = await submitted(engine, 1, "key_2")
        pages = [
            await tasks_of(engine, "key_1", TaskQuery(page_no=number, page_size=2))
            for number in (1, 2, 3, 4)
        ]
        everybody, n_all = await tasks_of(engine, None, TaskQuery(page_size=100))
        return mine, theirs, pages, everybody, n_all

    mine, theirs, pages, everybody, n_all = in_database(work)

    listed = [[row.id for row, _ in found] for found, _ in pages]
    assert listed == [[mine[4], mine[3]], [mine[2], mine[1]], [mine[0]], []]
    assert [n_tasks for _, n_tasks in pages] == [5] * 4
    assert [[file.number for file in files] for _, files in pages[0][0]] == [[0, 1]] * 2
    assert (n_all, everybody[0][0].id) == (6, theirs)
