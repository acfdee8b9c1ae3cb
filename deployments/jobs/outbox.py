"""The webhooks that are to be delivered, and every attempt to deliver one, in the database."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from deployments.core.errors import UnknownJob
from deployments.core.jobs.model import Json
from deployments.database.connection import now_s
from deployments.database.tables import attempts, deliveries
from deployments.jobs.kept_secrets import kept_secret
from deployments.jobs.signing import key_of, new_secret

WAITING, DELIVERED, STOPPED = "waiting", "delivered", "stopped"
GIVE_UP_AFTER_S = 24 * 3600.0
LEASE_S = 30.0  # of one attempt, which ends well before
# Seconds to the next attempt; the last one is repeated until a day is over.
PAUSES_S = (5.0, 30.0, 120.0, 600.0, 1800.0, 3600.0)
TRIED_AGAIN = (408, 429)  # of the answers 4xx; every other 4xx stops
SECRET_NAME, SECRET_VARIABLE = "webhook", "PARAFORMER_WEBHOOK_SECRET"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one attempt. `status` is None where there was no answer."""

    status: int | None
    error: str | None
    took_ms: int

    @property
    def state(self) -> str:
        """Delivered, stopped, or waiting for another attempt."""
        if self.status is None:
            return WAITING
        if 200 <= self.status < 300:
            return DELIVERED
        stops = 400 <= self.status < 500 and self.status not in TRIED_AGAIN
        return STOPPED if stops else WAITING


class Outbox:
    """The deliveries of a database."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def take(self) -> sa.Row[Any] | None:
        """The next delivery that is due. Nobody else gets it meanwhile."""
        due = (
            sa.select(deliveries.c.id)
            .where(deliveries.c.state == WAITING, deliveries.c.next_s <= now_s())
            .order_by(deliveries.c.next_s)
            .limit(1)
            .with_for_update(skip_locked=True)
            .cte("due")
        )
        taken = (
            sa.update(deliveries)
            .where(deliveries.c.id == due.c.id)
            .values(next_s=now_s() + LEASE_S, n_attempts=deliveries.c.n_attempts + 1)
            .returning(deliveries)
        )
        async with self._engine.begin() as connection:
            row: sa.Row[Any] | None = (await connection.execute(taken)).first()
            return row

    async def fill(self, delivery: str, body: str) -> None:
        """Keeps the body, which every attempt then sends unchanged."""
        mine = sa.update(deliveries).where(deliveries.c.id == delivery)
        async with self._engine.begin() as connection:
            await connection.execute(mine.values(body=body))

    async def tell(self, delivery: sa.Row[Any], outcome: Outcome) -> None:
        """Writes down an attempt, and when the next one is due."""
        pause_s = PAUSES_S[min(delivery.n_attempts, len(PAUSES_S)) - 1]
        is_late = deliveries.c.created_s + GIVE_UP_AFTER_S < now_s() + pause_s
        state = (
            sa.case((is_late, STOPPED), else_=WAITING)
            if outcome.state == WAITING
            else sa.literal(outcome.state)
        )
        attempt = {
            "delivery": delivery.id,
            "at_s": now_s(),
            "status": outcome.status,
            "error": outcome.error,
            "took_ms": outcome.took_ms,
        }
        async with self._engine.begin() as connection:
            mine = sa.update(deliveries).where(
                deliveries.c.id == delivery.id, deliveries.c.n_attempts == delivery.n_attempts
            )  # a later attempt, or a replay, knows better
            await connection.execute(mine.values(state=state, next_s=now_s() + pause_s))
            await connection.execute(sa.insert(attempts).values(attempt))

    async def replay(self, job: str, delivery: str) -> None:
        """Lets a delivery wait again, as if it were new. Raises UnknownJob."""
        mine = sa.and_(deliveries.c.id == delivery, deliveries.c.job == job)
        anew = {"state": WAITING, "next_s": 0.0, "n_attempts": 0, "created_s": now_s()}
        async with self._engine.begin() as connection:
            found = await connection.execute(sa.update(deliveries).where(mine).values(anew))
            if found.rowcount != 1:
                raise UnknownJob(f"{job}, delivery {delivery}")

    async def of_job(self, job: str) -> list[Json]:
        """The deliveries of a job, each with its attempts."""
        mine = sa.select(deliveries).where(deliveries.c.job == job)
        async with self._engine.begin() as connection:
            rows = (await connection.execute(mine.order_by(deliveries.c.created_s))).all()
            tried = sa.select(attempts).where(attempts.c.delivery.in_([row.id for row in rows]))
            made = (await connection.execute(tried.order_by(attempts.c.id))).all()
        return [_delivery_json(row, made) for row in rows]

    async def secret(self, environ: Mapping[str, str] = os.environ) -> str:
        """The secret that signs: of the environment, or one that is made once for this database.

        Raises ValueError for a secret of the environment that cannot be used.
        """
        if named := environ.get(SECRET_VARIABLE, ""):
            key_of(named)
            return named
        return await kept_secret(self._engine, SECRET_NAME, new_secret)


def _delivery_json(row: sa.Row[Any], made: Sequence[sa.Row[Any]]) -> Json:
    return {
        "id": row.id,
        "event": row.event,
        "url": row.url,
        "state": row.state,
        "attempts": [
            {"at": a.at_s, "status": a.status, "error": a.error, "took_ms": a.took_ms}
            for a in made
            if a.delivery == row.id
        ],
    }
