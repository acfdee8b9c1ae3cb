"""The one replica that counts for all ingresses: which keys there are, and what each uses.

Every ingress tells every 2 s which requests it still has, and gets the keys. So a revoked key is
known everywhere within seconds, requests of an ingress that died do not count for ever, and a new
replica soon knows what is under way. Keys and usage that last are in the database.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress

from deployments.core.errors import Overloaded, Unauthorized
from deployments.keys import store
from deployments.keys.book import Book
from deployments.keys.limits import day_of
from deployments.keys.messages import Left, Open, Told, Used
from deployments.keys.sources import Sources
from deployments.service_settings import KeysSettings, Storage

logger = logging.getLogger("ray.serve")

READ_S = 1.0  # how often keys are read anew
LISTEN_S = 2.5  # how long a new replica only listens: every ingress tells within that time
READY_TIMEOUT_S = 4.0
RETRY_S = 5.0


class Keys:
    """One instance. Times of permits are of its own clock."""

    def __init__(
        self, settings: KeysSettings, storage: Storage, *, listen_s: float = LISTEN_S
    ) -> None:
        self._sources = Sources(settings, storage)
        self._book = Book(time.monotonic, time.time)
        self._revision, self._secret = 0, ""
        self._listens_until_s = time.monotonic() + listen_s
        self._is_read, self._is_used = asyncio.Event(), asyncio.Event()
        self._failure = ""
        self._work: asyncio.Task[None] | None = None

    async def tell(self, ingress: str, held: dict[str, Open], left: list[Left], seen: int) -> Told:
        """The keys, if they are not those of the revision `seen`. Raises Overloaded."""
        await self._ready()
        for one in left:
            self._book.leave(one)
            self._is_used.set()
        self._book.hear(ingress, held)
        if seen == self._revision:
            return Told(seen)
        return Told(self._revision, self._book.keys, self._secret)

    async def enter(self, ingress: str, permit: str, key: str, n_bytes: int) -> None:
        """Lets a request begin. Raises LimitExceeded, Unauthorized and Overloaded."""
        await self._ready()
        if (wait_s := self._listens_until_s - time.monotonic()) > 0:
            await asyncio.sleep(wait_s)
        try:
            self._book.enter(ingress, permit, key, n_bytes)
        except KeyError:
            raise Unauthorized("The API key is not valid here.") from None

    async def leave(self, left: Left) -> None:
        """Ends a request and charges it, once however often it is told. Raises Overloaded.

        Work that had no permit is charged in the same way, such as a file of a job.
        """
        await self._ready()
        self._book.leave(left)
        self._is_used.set()

    async def usage(self, key: str | None, since: str, until: str) -> Sequence[tuple[Used, str]]:
        """What was used by day, key and model, each with the key's name. `key` None: of all."""
        await self._ready()
        found = [
            one
            for one in self._book.unwritten()
            if since <= one.day <= until and key in (None, one.key)
        ]
        if self._sources.database is not None:
            found += await store.usage_of(self._sources.database, key=key, since=since, until=until)
        names = await self._names()
        return [(one, names.get(one.key, "")) for one in _together(found)]

    async def close(self) -> None:
        """Writes what is not written yet, and leaves the database."""
        if self._work is not None:
            self._work.cancel()
            await asyncio.wait([self._work])
        await self._write()
        await self._sources.close()

    async def _names(self) -> Mapping[str, str]:
        """The names of the keys, those that are revoked too."""
        names = {key.id: key.name for key in self._book.keys.values()}
        if self._sources.database is None:
            return names
        stored = await store.every(self._sources.database)
        return {one.key.id: one.key.name for one in stored} | names

    async def _ready(self) -> None:
        """Raises Overloaded where the keys could not be read yet."""
        if self._work is None or self._work.done():
            self._work = asyncio.create_task(self._run())
        try:
            await asyncio.wait_for(self._is_read.wait(), READY_TIMEOUT_S)
        except TimeoutError:
            raise Overloaded(RETRY_S) from None

    async def _run(self) -> None:
        """Reads the keys every second, and writes usage as it comes."""
        task = asyncio.current_task()
        assert task is not None
        while not task.cancelling():  # `wait_for` of Python 3.11 may lose a cancellation
            began_s = time.monotonic()
            try:
                await self._read()
                self._failure = ""
                while not task.cancelling() and (
                    (left_s := began_s + READ_S - time.monotonic()) > 0
                ):
                    await self._write()
                    with suppress(TimeoutError):
                        await asyncio.wait_for(self._is_used.wait(), left_s)
            except Exception as error:
                self._complain(error)
                await asyncio.sleep(READ_S)
            self._book.tidy()

    async def _read(self) -> None:
        if not self._is_read.is_set():
            await self._sources.open()
            self._secret = await self._sources.session_secret()
            if self._sources.database is not None:
                today = day_of(time.time())
                span = {"since": today, "until": today}
                self._book.begin(await store.usage_of(self._sources.database, key=None, **span))
        keys = await self._sources.read()
        if keys != self._book.keys or not self._revision:
            self._book.change_keys(keys)
            self._revision = time.time_ns()  # unlike that of any replica before
        self._is_read.set()

    async def _write(self) -> None:
        self._is_used.clear()
        if self._sources.database is None:
            return
        taken = self._book.take()
        try:
            if taken:
                await store.add_usage(self._sources.database, taken)
        except BaseException:
            self._book.put_back(taken)
            raise

    def _complain(self, error: Exception) -> None:
        """Says once what is wrong. The text of a foreign error may hold a value of a statement."""
        is_ours = isinstance(error, (ValueError, OSError))
        failure = str(error) if is_ours else type(error).__name__
        if failure != self._failure:
            logger.error("Keys or usage cannot be read or written: %s", failure)
        self._failure = failure


def _together(found: Sequence[Used]) -> list[Used]:
    """One row for each day, key and model."""
    sums: dict[tuple[str, str, str], tuple[int, int]] = {}
    for one in found:
        place = (one.day, one.key, one.model)
        audio_ms, n_requests = sums.get(place, (0, 0))
        sums[place] = (audio_ms + one.audio_ms, n_requests + one.n_requests)
    return [Used(*place, *counts) for place, counts in sorted(sums.items())]
