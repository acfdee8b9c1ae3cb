"""Brings a database to the tables of this version, in the process that opens it.

Several processes may do so at once: one of them migrates, and the others wait and find nothing to
do.
"""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from sqlalchemy.ext.asyncio import AsyncEngine

SCRIPTS = Path(__file__).parent / "migrations"
LOCK = 7_260_731  # of PostgreSQL's advisory locks; any number that nobody else uses


async def migrate(engine: AsyncEngine, to: str = "head") -> None:
    """Runs the migrations up to the revision `to` that the database has not seen."""
    async with engine.begin() as connection:
        await connection.run_sync(_upgrade, to)


def _upgrade(connection: sa.Connection, to: str) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(LOCK)))
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    config.attributes["connection"] = connection
    command.upgrade(config, to)
