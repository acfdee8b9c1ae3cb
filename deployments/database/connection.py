"""Opens the database. The same statements run on SQLite and on PostgreSQL.

SQLite is one file, which the processes of one machine share. Every transaction on it begins as a
writer: a reader that became a writer half-way would fail at once where another writes.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg"}
BUSY_MS = 30_000  # how long a SQLite transaction waits for another process's
CONNECTIONS = {"sqlite": 1, "postgresql": 8}  # writers of one SQLite file only wait for each other
# A server that has gone without a word would else hold a connection for minutes.
PATIENCE: dict[str, dict[str, Any]] = {
    "sqlite": {},
    "postgresql": {"timeout": 10.0, "command_timeout": 30.0},
}
PRAGMAS = (
    "journal_mode=WAL",
    "synchronous=NORMAL",
    f"busy_timeout={BUSY_MS}",
    "foreign_keys=ON",
)


class now_s(FunctionElement[float]):
    """Seconds since 1970 by the database's clock, so that workers' clocks need not agree."""

    inherit_cache = True
    type = sa.Double()


@compiles(now_s, "sqlite")
def _now_in_sqlite(*_: Any, **__: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(now_s, "postgresql")
def _now_in_postgresql(*_: Any, **__: Any) -> str:
    return "extract(epoch from clock_timestamp())::float8"


def connect(url: str) -> AsyncEngine:
    """The database at `sqlite:///FILE` or `postgresql://USER:PASSWORD@HOST/NAME`.

    Nothing is opened yet. Raises ValueError for a URL of another kind; the message holds no
    password.
    """
    try:
        parsed = make_url(url)
        kind = parsed.get_backend_name()
        full = parsed.set(drivername=DRIVERS[kind])
    except (KeyError, sa.exc.ArgumentError):
        raise ValueError("The database's URL begins with sqlite:/// or postgresql://.") from None
    engine = create_async_engine(
        full,
        pool_size=CONNECTIONS[kind],
        max_overflow=0,
        pool_pre_ping=kind != "sqlite",  # a server may have been started anew
        connect_args=PATIENCE[kind],
    )
    if kind == "sqlite":
        event.listen(engine.sync_engine, "connect", _prepare_sqlite)
        event.listen(engine.sync_engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # the driver begins no transaction of its own
    cursor = connection.cursor()
    for pragma in PRAGMAS:
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: sa.Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")
