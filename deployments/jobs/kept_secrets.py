"""Secrets that the service makes for itself, once for each database."""

from __future__ import annotations

from collections.abc import Callable

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine

from deployments.database.tables import secrets

STORAGE = "storage"  # no secret: the name of this database, which its storage bears
LINKS = "result_links"  # signs the links to transcripts


async def kept_secret(engine: AsyncEngine, name: str, make: Callable[[], str]) -> str:
    """The secret of this name. It is made where there is none yet."""
    known = sa.select(secrets.c.value).where(secrets.c.name == name)
    async with engine.begin() as connection:
        if found := (await connection.execute(known)).scalar():
            return str(found)
    try:
        async with engine.begin() as connection:
            await connection.execute(sa.insert(secrets).values(name=name, value=make()))
    except IntegrityError:
        pass  # another process was faster
    async with engine.begin() as connection:
        return str((await connection.execute(known)).scalar_one())
