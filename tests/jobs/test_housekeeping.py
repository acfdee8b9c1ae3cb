"""What nobody needs any more is removed, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import pytest

from benchmarks.material.marked import marked_folder
from benchmarks.material.synthetic_audio import voice
from deployments.core.errors import UnknownJob
from deployments.core.jobs.model import new_id
from deployments.core.jobs.objects import audio_key
from deployments.jobs.housekeeping import Housekeeping
from deployments.jobs.leases import Leases
from deployments.jobs.store import Store
from deployments.objects import Objects, folder_objects
from deployments.service_settings import JobsSettings
from tests.jobs.conftest import opened
from tests.jobs.working import submitted

T = TypeVar("T")


async def keys_of(objects: Objects) -> set[str]:
    return {key async for page in objects.keys("jobs") for key in page}


def swept(
    tmp_path: Path,
    before: Callable[[Objects, Store, str], Awaitable[None]],
    *,
    orphan_after_s: float = -1.0,
    sweeps: bool = True,
    settings: JobsSettings | None = None,
) -> tuple[str, set[str]]:
    """Sweeps a storage with one job and what `before` puts there. The job, and the keys left."""

    async def run() -> tuple[str, set[str]]:
        objects = marked_folder(tmp_path / "objects")
        async with opened(f"sqlite:///{tmp_path / 'state.db'}") as engine:
            job = await submitted(engine, objects, voice(1000, seed=1))
            store, leases = Store(engine, max_waiting=9), Leases(engine, "w", lease_s=9)
            await before(objects, store, job)
            house = Housekeeping(store, leases, objects, settings or JobsSettings(), sweeps=sweeps)
            await house.sweep(orphan_after_s=orphan_after_s)
            return job, await keys_of(objects)

    return asyncio.run(run())


async def orphan(objects: Objects, store: Store, job: str) -> None:
    await objects.put(audio_key(new_id("job"), 0), b"left behind")


def test_what_a_crash_leaves_is_removed(tmp_path: Path) -> None:
    job, left = swept(tmp_path, orphan)

    assert left == {audio_key(job, 0)}


def test_an_upload_that_has_no_job_yet_stays(tmp_path: Path) -> None:
    _, left = swept(tmp_path, orphan, orphan_after_s=600.0)

    assert len(left) == 2


def test_what_another_database_may_know_stays(tmp_path: Path) -> None:
    _, left = swept(tmp_path, orphan, sweeps=False)

    assert len(left) == 2


def test_what_is_no_job_s_stays(tmp_path: Path) -> None:
    async def foreign(objects: Objects, store: Store, job: str) -> None:
        await objects.put("jobs/2024/foo.mp3", b"somebody's")
        await objects.put("jobs/readme.txt", b"somebody's")

    _, left = swept(tmp_path, foreign)

    assert {"jobs/2024/foo.mp3", "jobs/readme.txt"} < left


def test_what_a_killed_process_began_to_write_is_removed(tmp_path: Path) -> None:
    async def half(objects: Objects, store: Store, job: str) -> None:
        folder = tmp_path / "objects" / "jobs" / new_id("job") / "0"
        folder.mkdir(parents=True)
        (folder / "audio#1").write_bytes(b"half of it")  # as object_store names it meanwhile

    job, _ = swept(tmp_path, half)

    assert [path.name for path in (tmp_path / "objects" / "jobs").iterdir()] == [job]


def test_a_job_is_removed_when_its_time_is_over(tmp_path: Path) -> None:
    async def end(objects: Objects, store: Store, job: str) -> None:
        await store.cancel(job, None)
        await asyncio.sleep(0.05)

    job, left = swept(tmp_path, end, settings=JobsSettings(keep_hours=1e-6))

    async def find() -> None:
        async with opened(f"sqlite:///{tmp_path / 'state.db'}") as engine:
            await Store(engine, max_waiting=9).find(job, None)

    assert left == set()
    with pytest.raises(UnknownJob):
        asyncio.run(find())


def test_a_storage_bears_the_name_of_its_database(tmp_path: Path) -> None:
    async def run() -> list[bool]:
        objects = folder_objects(tmp_path / "objects")
        return [
            await objects.mark("mine", is_new=False),  # its jobs lie elsewhere
            await objects.mark("mine", is_new=True),
            await objects.mark("mine", is_new=False),
            await objects.mark("another", is_new=True),
        ]

    assert asyncio.run(run()) == [False, True, True, False]
