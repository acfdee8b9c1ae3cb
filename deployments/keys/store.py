"""Keys, usage and the secret of sessions in the database."""

from __future__ import annotations

import json
import secrets as random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncEngine

from deployments.database.tables import keys, secrets, usage
from deployments.keys.messages import Used
from deployments.keys.records import Key, checked_limits

SESSIONS = "sessions"  # the row of `secrets`
INSERT: dict[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


@dataclass(frozen=True, slots=True)
class Stored:
    """A key of the table with what only its owner looks at."""

    key: Key
    created_s: float
    revoked_s: float | None


async def add(engine: AsyncEngine, key: Key, now_s: float) -> None:
    row = {
        "id": key.id,
        "name": key.name,
        "hash": key.hash,
        "old_until_s": 0.0,
        "scopes": json.dumps(key.scopes),
        "limits": json.dumps({k: v for k, v in asdict(key.limits).items() if v is not None}),
        "created_s": now_s,
        "expires_s": key.expires_s,
    }
    async with engine.begin() as connection:
        await connection.execute(sa.insert(keys).values(row))


async def every(engine: AsyncEngine) -> list[Stored]:
    """All keys, the oldest first, those that are revoked too."""
    async with engine.begin() as connection:
        rows = (await connection.execute(sa.select(keys).order_by(keys.c.created_s))).mappings()
        return [Stored(_key(row), row["created_s"], row["revoked_s"]) for row in rows]


async def revoke(engine: AsyncEngine, id: str, now_s: float) -> bool:
    """Whether there was such a key, which was not revoked already."""
    return await _changed(engine, id, {"revoked_s": now_s})


async def rotate(engine: AsyncEngine, id: str, hash: str, old_until_s: float) -> bool:
    """Gives the key another secret. The one before is valid until `old_until_s`."""
    values = {"hash": hash, "old_hash": keys.c.hash, "old_until_s": old_until_s}
    return await _changed(engine, id, values)


async def _changed(engine: AsyncEngine, id: str, values: Mapping[str, Any]) -> bool:
    chosen = sa.update(keys).where(keys.c.id == id, keys.c.revoked_s.is_(None)).values(values)
    async with engine.begin() as connection:
        return bool((await connection.execute(chosen)).rowcount)


async def session_secret(engine: AsyncEngine) -> str:
    """The secret that signs sessions, made by whoever asks first."""
    async with engine.begin() as connection:
        insert = INSERT[connection.dialect.name](secrets)
        values = {"name": SESSIONS, "value": random.token_hex(32)}
        await connection.execute(insert.values(values).on_conflict_do_nothing())
        chosen = sa.select(secrets.c.value).where(secrets.c.name == SESSIONS)
        return str((await connection.execute(chosen)).scalar_one())


async def add_usage(engine: AsyncEngine, added: Iterable[Used]) -> None:
    """Adds to what is there, all of it or nothing."""
    async with engine.begin() as connection:
        for one in added:
            insert = INSERT[connection.dialect.name](usage).values(asdict(one))
            more = {
                "audio_ms": usage.c.audio_ms + one.audio_ms,
                "n_requests": usage.c.n_requests + one.n_requests,
            }
            same = [usage.c.day, usage.c.key, usage.c.model]
            await connection.execute(insert.on_conflict_do_update(index_elements=same, set_=more))


async def usage_of(
    engine: AsyncEngine, *, key: str | None, since: str, until: str
) -> Sequence[Used]:
    """By day, key and model. `key` None means all of them; both days belong to the answer."""
    chosen = sa.select(usage).where(usage.c.day >= since, usage.c.day <= until)
    if key is not None:
        chosen = chosen.where(usage.c.key == key)
    order = (usage.c.day, usage.c.key, usage.c.model)
    async with engine.begin() as connection:
        rows = (await connection.execute(chosen.order_by(*order))).mappings()
        return [Used(**row) for row in rows]


def _key(row: Any) -> Key:
    return Key(
        id=row["id"],
        name=row["name"],
        hash=row["hash"],
        scopes=tuple(json.loads(row["scopes"])),
        limits=checked_limits(json.loads(row["limits"])),
        old_hash=row["old_hash"],
        old_until_s=row["old_until_s"],
        expires_s=row["expires_s"],
    )
