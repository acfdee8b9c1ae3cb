"""Where keys come from: the file, the environment and the database, all together."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from dataclasses import replace

from sqlalchemy.ext.asyncio import AsyncEngine

from deployments.database.connection import connect
from deployments.database.migrate import migrate
from deployments.keys import plain, store
from deployments.keys.records import Key, KeyLimits
from deployments.service_settings import KeysSettings, Storage
from deployments.storage import data_dir, database_url, in_data_dir


class Sources:
    """All keys that are valid, as the places have them now."""

    def __init__(
        self,
        settings: KeysSettings,
        storage: Storage,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self._settings, self._storage, self._environ = settings, storage, environ
        self._defaults = KeyLimits(
            max_concurrent=settings.max_concurrent,
            audio_s_per_minute=settings.audio_s_per_minute,
            audio_s_per_day=settings.audio_s_per_day,
            max_upload_mb=settings.max_upload_mb,
            max_waiting_files=settings.max_waiting_files,
        )
        self._file: tuple[object, list[Key]] = (None, [])
        self.database: AsyncEngine | None = None  # once it is open, and has all tables

    async def open(self) -> None:
        """Opens the database, where the settings name it. Does nothing a second time."""
        if self._settings.database and self.database is None:
            database = await opened(self._storage, self._environ)
            self.database = database

    async def close(self) -> None:
        if self.database is not None:
            await self.database.dispose()

    async def session_secret(self) -> str:
        """The secret that signs sessions. Without a database it is a new one each time."""
        if self.database is None:
            return secrets.token_hex(32)
        return await store.session_secret(self.database)

    async def read(self) -> dict[str, Key]:
        """The keys by their ids. Raises ValueError and OSError of a file, and the database's."""
        found = plain.from_environment(self._environ) + self._of_file()
        if self.database is not None:
            stored = await store.every(self.database)
            found += [one.key for one in stored if one.revoked_s is None]
        keys: dict[str, Key] = {}
        for key in found:
            keys.setdefault(key.id, replace(key, limits=key.limits.or_else(self._defaults)))
        return keys

    def _of_file(self) -> list[Key]:
        """The keys of the file, which is read again when it has changed."""
        path = self._settings.file
        if path is None:
            return []
        stat = path.stat()
        state = (stat.st_mtime_ns, stat.st_ino, stat.st_size, stat.st_mode)
        if self._file[0] != state:
            self._file = (state, plain.from_file(path))
        return self._file[1]


async def opened(storage: Storage, environ: Mapping[str, str] = os.environ) -> AsyncEngine:
    """The database with the tables of this version. Makes the folder of a file."""
    url = database_url(storage, environ)
    if in_data_dir(url):
        data_dir(storage, environ).mkdir(mode=0o700, parents=True, exist_ok=True)
    engine = connect(url)
    try:
        await migrate(engine)
    except BaseException:
        await engine.dispose()
        raise
    return engine
