"""Removes what nobody needs any more: expired jobs, and objects that a crash has left behind."""

from __future__ import annotations

import asyncio
import logging
import time

from deployments.core.errors import UnknownJob
from deployments.core.jobs.model import created_s, is_id
from deployments.core.jobs.objects import JOBS, prefix
from deployments.jobs.leases import Leases
from deployments.jobs.store import Store
from deployments.objects import Objects
from deployments.service_settings import JobsSettings

logger = logging.getLogger("ray.serve")

EXPIRE_S = 5.0  # between two looks for files that waited too long
SWEEP_S = 600.0  # between two sweeps; the first one is at the start
# An object is stored before its job is. Within this time its job must have come.
ORPHAN_AFTER_S = 600.0


class Housekeeping:
    """What runs beside a worker. Two of them do no harm to each other."""

    def __init__(
        self,
        store: Store,
        leases: Leases,
        objects: Objects,
        settings: JobsSettings,
        *,
        sweeps: bool = True,
    ) -> None:
        """Without `sweeps` objects without a job stay. They may be another database's."""
        self._store, self._leases, self._objects = store, leases, objects
        self._keep_s, self._sweeps = settings.keep_hours * 3600, sweeps

    async def run(self) -> None:
        swept_s = float("-inf")
        while True:
            try:
                await self._leases.expire()
                if time.monotonic() > swept_s + SWEEP_S:
                    await self.sweep()
                    swept_s = time.monotonic()
            except Exception as error:
                logger.warning("What jobs have left cannot be removed now: %s", error)
            await asyncio.sleep(EXPIRE_S)

    async def sweep(self, *, orphan_after_s: float = ORPHAN_AFTER_S) -> None:
        """Removes jobs that ended long ago, then the objects that belong to no job."""
        for job in await self._store.expired(self._keep_s):
            try:
                await self._store.delete(job, None)
            except UnknownJob:
                continue  # another replica was faster
            await self._objects.delete(prefix(job))
        if not self._sweeps:
            return
        async for names in self._objects.folders(JOBS):
            named = {name for name in names if is_id(name, "job")}  # the rest is not ours
            known = await self._store.known_of(sorted(named))
            for job in named - known:
                if created_s(job) < time.time() - orphan_after_s:
                    logger.info("Removing what a crash has left of %s.", job)
                    await self._objects.delete(prefix(job))
