"""How workers share the files of all jobs: each file has one lease, which its worker prolongs.

`epoch` counts the leases of a file, and every write of a worker names the epoch of its own lease.
A worker that was taken for dead, and is not, can write nothing any more. So each result is written
once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from deployments.core.jobs.model import COMPLETED, ENDED, FAILED, PROCESSING, QUEUED
from deployments.database.connection import now_s
from deployments.database.tables import files, jobs, segments
from deployments.jobs.settling import settle


class LeaseLost(Exception):
    """Another worker has the file now, or the job was canceled or deleted."""


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to work at one file, until another lease of it is given."""

    job: str
    number: int
    epoch: int
    n_failures: int


class Leases:
    """The files of a database, for one worker."""

    def __init__(self, engine: AsyncEngine, worker: str, *, lease_s: float) -> None:
        self._engine, self._worker, self._lease_s = engine, worker, lease_s

    async def waits(self) -> bool:
        """Whether some file can be taken."""
        async with self._engine.begin() as connection:
            found = await connection.execute(sa.select(files.c.job).where(_is_free()).limit(1))
            return found.first() is not None

    async def take(self) -> Lease | None:
        """The next file: by priority, then by age. A file whose worker has died counts too.

        A worker that dies counts as a failure of the file, because the file may be the reason.
        """
        chosen = (
            sa.select(files.c.job, files.c.number)
            .where(_is_free())
            .order_by(files.c.priority.desc(), files.c.created_s, files.c.job, files.c.number)
            .limit(1)
            .with_for_update(skip_locked=True)
            .cte("next_file")
        )
        died = sa.case((files.c.state == PROCESSING, 1), else_=0)
        taken = (
            sa.update(files)
            .where(files.c.job == chosen.c.job, files.c.number == chosen.c.number)
            .values(
                state=PROCESSING,
                worker=self._worker,
                epoch=files.c.epoch + 1,
                n_failures=files.c.n_failures + died,
                started_s=sa.func.coalesce(files.c.started_s, now_s()),
                lease_until_s=now_s() + self._lease_s,
            )
            .returning(files.c.job, files.c.number, files.c.epoch, files.c.n_failures)
        )
        async with self._engine.begin() as connection:
            row = (await connection.execute(taken)).first()
            if row is None:
                return None
            await settle(connection, row.job)
        return Lease(row.job, row.number, row.epoch, row.n_failures)

    async def prolong(self, lease: Lease, **values: Any) -> None:
        """Keeps the lease, and writes columns of the file. Raises LeaseLost."""
        async with self._engine.begin() as connection:
            await self._fenced(connection, lease, values)

    async def plan(
        self, lease: Lease, rows: list[dict[str, Any]], *, is_all: bool, **values: Any
    ) -> None:
        """Keeps the segments that the VAD found. Raises LeaseLost."""
        async with self._engine.begin() as connection:
            await self._fenced(connection, lease, {"is_planned": is_all, **values})
            if rows:
                key = {"job": lease.job, "number": lease.number}
                await connection.execute(sa.insert(segments), [key | row for row in rows])

    async def keep(
        self, lease: Lease, answers: Mapping[int, str], finals: Mapping[int, str], **values: Any
    ) -> None:
        """Writes the answers and the final texts of some segments. Raises LeaseLost."""
        async with self._engine.begin() as connection:
            # What has made progress has not failed: only attempts in vain count together.
            progress = {"n_failures": 0} if answers else {}
            await self._fenced(connection, lease, {**progress, **values})
            for column, found in (("answer", answers), ("final", finals)):
                if found:
                    written = (
                        sa.update(segments)
                        .where(segments.c.job == lease.job, segments.c.number == lease.number)
                        .where(segments.c.index == sa.bindparam("at"))
                        .values({column: sa.bindparam("text")})
                    )
                    rows = [{"at": index, "text": text} for index, text in found.items()]
                    await connection.execute(written, rows)

    async def forget(self, lease: Lease, **values: Any) -> None:
        """Removes what is known of the file's segments. Raises LeaseLost."""
        async with self._engine.begin() as connection:
            begun_anew = {"is_planned": False, "done_ms": 0, "speech_ms": 0}
            await self._fenced(connection, lease, begun_anew | values)
            mine = sa.and_(segments.c.job == lease.job, segments.c.number == lease.number)
            await connection.execute(sa.delete(segments).where(mine))

    async def complete(self, lease: Lease) -> None:
        """Ends the file. Its result is stored already. Raises LeaseLost."""
        await self._end(lease, {"state": COMPLETED})

    async def fail(self, lease: Lease, code: str, message: str) -> None:
        """Ends the file with an error. Raises LeaseLost."""
        await self._end(lease, {"state": FAILED, "error_code": code, "error": message})

    async def give_back(self, lease: Lease, *, wait_s: float = 0.0, failed: bool = False) -> None:
        """Lets the file wait again, for `wait_s` at least. Raises LeaseLost."""
        async with self._engine.begin() as connection:
            values = {
                "state": QUEUED,
                "worker": None,
                "not_before_s": now_s() + wait_s,
                "n_failures": files.c.n_failures + int(failed),
            }
            await self._fenced(connection, lease, values)

    async def expire(self) -> None:
        """Fails the files that have waited longer than their job allows."""
        late = sa.select(jobs.c.id).where(jobs.c.expires_s < now_s(), jobs.c.state.not_in(ENDED))
        late_files = sa.and_(
            files.c.job.in_(late), files.c.state == QUEUED, files.c.started_s.is_(None)
        )
        rows = sa.select(files.c.job).where(late_files).order_by(files.c.job, files.c.number)
        expired = (
            sa.update(files)
            .where(late_files)
            .values(
                state=FAILED,
                error_code="expired",
                error="The file had not begun when its job expired.",
                finished_s=now_s(),
            )
            .returning(files.c.job)
        )
        async with self._engine.begin() as connection:
            await connection.execute(rows.with_for_update())  # in one order: no deadlock
            for job in sorted(set((await connection.execute(expired)).scalars())):
                await settle(connection, job)

    async def _end(self, lease: Lease, values: dict[str, Any]) -> None:
        async with self._engine.begin() as connection:
            await self._fenced(connection, lease, values | {"finished_s": now_s(), "worker": None})
            await settle(connection, lease.job)

    async def _fenced(
        self, connection: AsyncConnection, lease: Lease, values: Mapping[str, Any]
    ) -> None:
        """Prolongs the lease and writes the values, or raises LeaseLost and writes nothing."""
        mine = (
            sa.update(files)
            .where(files.c.job == lease.job, files.c.number == lease.number)
            .where(files.c.epoch == lease.epoch, files.c.state == PROCESSING)
            .values({"lease_until_s": now_s() + self._lease_s, **values})
        )
        if (await connection.execute(mine)).rowcount != 1:
            raise LeaseLost


def _is_free() -> sa.ColumnElement[bool]:
    """Whether a file waits, or its worker has died."""
    waits = sa.and_(files.c.state == QUEUED, files.c.not_before_s <= now_s())
    is_left = sa.and_(files.c.state == PROCESSING, files.c.lease_until_s < now_s())
    return sa.or_(waits, is_left)
