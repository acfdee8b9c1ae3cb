"""What clients do with jobs, as statements to the database: submit, read, list, cancel, delete."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, TypeAlias

import sqlalchemy as sa
from pydantic import TypeAdapter
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from deployments.core.errors import BadRequest, Conflict, LimitExceeded, UnknownJob
from deployments.core.jobs.model import (
    CANCELED,
    OPEN,
    PROCESSING,
    QUEUED,
    Json,
    NewJob,
    Query,
    is_id,
)
from deployments.core.types import TranscribeOptions
from deployments.database.connection import now_s
from deployments.database.tables import files, jobs, segments
from deployments.jobs.settling import settle

OPTIONS = TypeAdapter(TranscribeOptions)
WAITING_RETRY_S = 60.0  # by then some file of the owner has ended

Row: TypeAlias = sa.Row[Any]
Found: TypeAlias = tuple[Row, list[Row]]  # a job and its files


class Store:
    """The jobs of a database. `max_waiting` bounds the files of one owner that have not ended."""

    def __init__(self, engine: AsyncEngine, *, max_waiting: int) -> None:
        self._engine, self._max_waiting = engine, max_waiting

    async def submit(self, job: NewJob) -> tuple[str, bool]:
        """Adds the job. Returns its id, and whether it is new.

        A second job with the same Idempotency-Key is the first one. Raises Conflict if its body is
        another, and LimitExceeded if too many files of its owner wait.
        """
        if (known := await self._known(job)) is not None:
            return known, False
        try:
            async with self._engine.begin() as connection:
                await self._check_waiting(connection, job)
                made = sa.insert(jobs).values(_job_values(job)).returning(jobs.c.created_s)
                created_s = (await connection.execute(made)).scalar_one()
                await connection.execute(sa.insert(files), _file_values(job, created_s))
        except IntegrityError:  # another request with the key was faster
            if (known := await self._known(job)) is None:
                raise
            return known, False
        return job.id, True

    async def find(self, job: str, owner: str | None) -> Found:
        """The rows of the job and of its files. Raises UnknownJob, also for another owner's job."""
        async with self._engine.begin() as connection:
            return await _find(connection, job, owner)

    async def page(self, owner: str | None, query: Query) -> tuple[list[Found], str]:
        """A page of jobs with their files, and the cursor of the next page, which may be empty."""
        chosen = sa.select(jobs).order_by(jobs.c.created_s.desc(), jobs.c.id.desc())
        if owner is not None:
            chosen = chosen.where(jobs.c.owner == owner)
        if query.states:
            chosen = chosen.where(jobs.c.state.in_(query.states))
        if query.created_after_s is not None:
            chosen = chosen.where(jobs.c.created_s > query.created_after_s)
        if query.created_before_s is not None:
            chosen = chosen.where(jobs.c.created_s < query.created_before_s)
        if query.after:
            created_s, last = _position(query.after)
            before = sa.and_(jobs.c.created_s == created_s, jobs.c.id < last)
            chosen = chosen.where(sa.or_(jobs.c.created_s < created_s, before))
        async with self._engine.begin() as connection:
            rows = (await connection.execute(chosen.limit(query.limit + 1))).all()
            page = rows[: query.limit]
            of_page = sa.select(files).where(files.c.job.in_([row.id for row in page]))
            found = (await connection.execute(of_page.order_by(files.c.number))).all()
        mine = {row.id: [file for file in found if file.job == row.id] for row in page}
        cursor = _cursor(page[-1]) if len(rows) > query.limit else ""
        return [(row, mine[row.id]) for row in page], cursor

    async def ahead(self, file: Row) -> tuple[int, int | None]:
        """The queued files before this one, and the milliseconds of audio that go before it.

        None where the length of some file is not known. What is left of the files of other jobs
        that are worked at counts too.
        """
        order = (files.c.created_s, files.c.job, files.c.number)
        earlier = sa.tuple_(*order) < (file.created_s, file.job, file.number)
        before = sa.or_(
            files.c.priority > file.priority,
            sa.and_(files.c.priority == file.priority, earlier),
        )
        counted = sa.select(
            sa.func.count(), sa.func.sum(files.c.duration_ms), sa.func.count(files.c.duration_ms)
        ).where(files.c.state == QUEUED, before)
        left = sa.select(sa.func.sum(files.c.duration_ms - files.c.done_ms)).where(
            files.c.state == PROCESSING, files.c.job != file.job
        )
        async with self._engine.begin() as connection:
            n_files, duration_ms, n_known = (await connection.execute(counted)).one()
            left_ms = (await connection.execute(left)).scalar()
        ahead_ms = int(duration_ms or 0) + int(left_ms or 0)
        return n_files, ahead_ms if n_known == n_files else None

    async def rename(self, job: str, owner: str | None, name: str) -> None:
        async with self._engine.begin() as connection:
            await _find(connection, job, owner)
            await connection.execute(sa.update(jobs).where(jobs.c.id == job).values(name=name))

    async def cancel(self, job: str, owner: str | None) -> None:
        """Ends what has not ended. Workers see it at their next write, or by their heartbeat."""
        async with self._engine.begin() as connection:
            await _find(connection, job, owner)
            still_open = sa.and_(files.c.job == job, files.c.state.in_(OPEN))
            rows = sa.select(files.c.number).where(still_open).order_by(files.c.number)
            await connection.execute(rows.with_for_update())  # in one order: no deadlock
            await connection.execute(
                sa.update(files).where(still_open).values(state=CANCELED, finished_s=now_s())
            )
            await settle(connection, job)

    async def delete(self, job: str, owner: str | None) -> list[str]:
        """Removes every row of the job. Returns the keys of its recordings' objects."""
        async with self._engine.begin() as connection:
            _, found = await _find(connection, job, owner)
            await connection.execute(sa.delete(jobs).where(jobs.c.id == job))
        return [file.object_key for file in found if file.object_key is not None]

    async def edit(self, job: str, number: int, owner: str | None, edits: Json) -> None:
        """Replaces the texts that a person has written in place of recognised ones."""
        async with self._engine.begin() as connection:
            file_of(await _find(connection, job, owner), number)
            await connection.execute(
                sa.update(files)
                .where(files.c.job == job, files.c.number == number)
                .values(edits=json.dumps(edits, ensure_ascii=False))
            )

    async def finals(self, job: str, number: int, after: int) -> list[str]:
        """The final segments from the index `after` on, as they were written, in order."""
        chosen = (
            sa.select(segments.c.final)
            .where(segments.c.job == job, segments.c.number == number)
            .where(segments.c.index >= after, segments.c.final.is_not(None))
            .order_by(segments.c.index)
        )
        async with self._engine.begin() as connection:
            return list((await connection.execute(chosen)).scalars())

    async def expired(self, keep_s: float) -> Sequence[str]:
        """The jobs that ended more than `keep_s` ago."""
        chosen = sa.select(jobs.c.id).where(jobs.c.finished_s < now_s() - keep_s)
        async with self._engine.begin() as connection:
            return (await connection.execute(chosen)).scalars().all()

    async def has_jobs(self) -> bool:
        async with self._engine.begin() as connection:
            found = await connection.execute(sa.select(jobs.c.id).limit(1))
            return found.first() is not None

    async def known_of(self, found: Sequence[str]) -> set[str]:
        """Those of the ids that are jobs."""
        chosen = sa.select(jobs.c.id).where(jobs.c.id.in_(found))
        async with self._engine.begin() as connection:
            return set((await connection.execute(chosen)).scalars())

    async def _known(self, job: NewJob) -> str | None:
        """The job that has the Idempotency-Key already."""
        if job.idempotency_key is None:
            return None
        chosen = sa.select(jobs.c.id, jobs.c.body_hash).where(
            jobs.c.owner == job.owner, jobs.c.idempotency_key == job.idempotency_key
        )
        async with self._engine.begin() as connection:
            row = (await connection.execute(chosen)).first()
        if row is not None and row.body_hash != job.body_hash:
            raise Conflict("Another request was sent with this Idempotency-Key.")
        return None if row is None else str(row.id)

    async def _check_waiting(self, connection: AsyncConnection, job: NewJob) -> None:
        limit = self._max_waiting if job.max_waiting is None else job.max_waiting
        waiting = sa.select(sa.func.count()).select_from(files.join(jobs))
        waiting = waiting.where(jobs.c.owner == job.owner, files.c.state.in_(OPEN))
        if connection.dialect.name == "postgresql":  # one by one, else all see the same number
            lock = sa.func.pg_advisory_xact_lock(sa.func.hashtext(job.owner))
            await connection.execute(sa.select(lock))
        n_waiting = (await connection.execute(waiting)).scalar_one()
        if n_waiting + len(job.files) > limit:
            raise LimitExceeded(f"{limit} files of jobs that wait", WAITING_RETRY_S)


def file_of(found: Found, number: int) -> Row:
    """The file of that number. Raises UnknownJob if the job has no such file."""
    job, of_job = found
    if not 0 <= number < len(of_job):
        raise UnknownJob(f"{job.id}, file {number}")
    return of_job[number]


async def _find(connection: AsyncConnection, job: str, owner: str | None) -> Found:
    row = (await connection.execute(sa.select(jobs).where(jobs.c.id == job))).first()
    if row is None or owner not in (None, row.owner):
        raise UnknownJob(job)
    chosen = sa.select(files).where(files.c.job == job).order_by(files.c.number)
    return row, list((await connection.execute(chosen)).all())


def _job_values(job: NewJob) -> dict[str, Any]:
    expires = None if job.expires_after_s is None else now_s() + job.expires_after_s
    return {
        "id": job.id,
        "owner": job.owner,
        "name": job.name,
        "state": QUEUED,
        "created_s": now_s(),
        "expires_s": expires,
        "options": OPTIONS.dump_json(job.options).decode(),
        "labels": json.dumps(job.labels, ensure_ascii=False),
        "webhook_url": job.webhook_url,
        "idempotency_key": job.idempotency_key,
        "body_hash": job.body_hash,
    }


def _file_values(job: NewJob, created_s: float) -> list[dict[str, Any]]:
    return [
        asdict(file)
        | {
            "job": job.id,
            "number": number,
            "state": QUEUED,
            "priority": job.priority,
            "created_s": created_s,
            "not_before_s": 0.0,
            "epoch": 0,
            "lease_until_s": 0.0,
            "n_failures": 0,
            "is_planned": False,
            "done_ms": 0,
            "speech_ms": 0,
        }
        for number, file in enumerate(job.files)
    ]


def _cursor(row: Row) -> str:
    return base64.urlsafe_b64encode(f"{row.created_s!r} {row.id}".encode()).decode()


def _position(cursor: str) -> tuple[float, str]:
    """What `_cursor` wrote. Raises BadRequest."""
    try:
        created_s, job = base64.urlsafe_b64decode(cursor.encode()).decode().split(" ")
        if not is_id(job, "job"):
            raise ValueError(job)
        return float(created_s), job
    except ValueError:
        raise BadRequest("after is no cursor of a list of jobs.", "after") from None
