"""The list of tasks that DashScope's clients see: numbered pages, and how many tasks there are."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from deployments.core.jobs.model import CANCELED, COMPLETED, PROCESSING, QUEUED, State
from deployments.core.jobs.tasks import (
    FAILED,
    PENDING,
    RUNNING,
    STOPPED,
    SUCCEEDED,
    TaskQuery,
)
from deployments.database.tables import files, jobs
from deployments.jobs.store import Found


def _has(state: State) -> sa.ColumnElement[bool]:
    return sa.exists().where(files.c.job == jobs.c.id, files.c.state == state)


# `task_status` of core/jobs/tasks.py, in SQL.
STATUS = sa.case(
    (jobs.c.state == QUEUED, PENDING),
    (jobs.c.state == PROCESSING, RUNNING),
    (_has(CANCELED), STOPPED),
    (_has(COMPLETED), SUCCEEDED),
    else_=FAILED,
)


async def tasks_of(
    engine: AsyncEngine, owner: str | None, query: TaskQuery
) -> tuple[list[Found], int]:
    """A page of jobs with their files, from the newest on, and how many the whole list has."""
    is_asked: list[sa.ColumnElement[bool]] = []
    if owner is not None:
        is_asked.append(jobs.c.owner == owner)
    if query.status is not None:
        is_asked.append(STATUS.in_([query.status]))
    if query.created_after_s is not None:
        is_asked.append(jobs.c.created_s >= query.created_after_s)
    if query.created_before_s is not None:
        is_asked.append(jobs.c.created_s <= query.created_before_s)
    counted = sa.select(sa.func.count()).select_from(jobs).where(*is_asked)
    page = (
        sa.select(jobs)
        .where(*is_asked)
        .order_by(jobs.c.created_s.desc(), jobs.c.id.desc())
        .limit(query.page_size)
        .offset((query.page_no - 1) * query.page_size)
    )
    async with engine.begin() as connection:
        n_tasks = (await connection.execute(counted)).scalar_one()
        rows = (await connection.execute(page)).all()
        of_page = sa.select(files).where(files.c.job.in_([row.id for row in rows]))
        found = (await connection.execute(of_page.order_by(files.c.number))).all()
    return [(row, [file for file in found if file.job == row.id]) for row in rows], n_tasks
