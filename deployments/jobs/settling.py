"""What follows in the same transaction when a file of a job changes its state."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from deployments.core.jobs.model import ENDED, job_state, new_id
from deployments.database.connection import now_s
from deployments.database.tables import deliveries, files, jobs

EVENTS = {state: f"transcription_job.{state}" for state in ENDED}


async def settle(connection: AsyncConnection, job: str) -> None:
    """Gives the job the state that follows from its files. Its end is told by a webhook.

    The job's row is locked first: two files that end at the same time are settled one by one, so
    that the second one sees the end of the first.
    """
    locked = sa.select(jobs).where(jobs.c.id == job).with_for_update()
    row = (await connection.execute(locked)).first()
    if row is None or row.state in ENDED:
        return
    states = sa.select(files.c.state).where(files.c.job == job)
    state = job_state(list((await connection.execute(states)).scalars()))
    if state == row.state:
        return
    ended = {"finished_s": now_s()} if state in ENDED else {}
    await connection.execute(sa.update(jobs).where(jobs.c.id == job).values(state=state, **ended))
    if state in ENDED and row.webhook_url is not None:
        await connection.execute(
            sa.insert(deliveries).values(
                id=new_id("msg"),
                job=job,
                event=EVENTS[state],
                url=row.webhook_url,
                body="",  # written by the sender, which sees the whole job
                state="waiting",
                created_s=now_s(),
                next_s=0.0,
                n_attempts=0,
            )
        )
