"""A worker of jobs as a process that may be killed: the real worker, with a played pipeline.

    python -m benchmarks.service.job_worker DATABASE_URL FOLDER RECEIVER

Each segment that it recognises is a line of FOLDER/recognised.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any, cast

import numpy as np

from benchmarks.material.marked import marked_folder
from deployments.core.jobs.model import new_id
from deployments.core.segments import Answer, merge
from deployments.core.types import (
    Done,
    Recognition,
    Segment,
    StreamEvent,
    TranscribeOptions,
    Transcript,
    Upload,
)
from deployments.database.connection import connect
from deployments.database.migrate import migrate
from deployments.jobs.leases import Leases
from deployments.jobs.outbox import Outbox
from deployments.jobs.store import Store
from deployments.jobs.webhooks import Sender
from deployments.jobs.worker import Worker
from deployments.outgoing.allowed import allowed
from deployments.outgoing.guard import Guard
from deployments.request.journal import Journal
from deployments.request.router import Pipeline
from deployments.service_settings import JobsSettings

LEASE_S = 1.5
N_SEGMENTS, SEGMENT_MS = 8, 1000
SEGMENT_TAKES_S = 0.01
AT_ONCE = 4


class Played:
    """A pipeline that takes its time for each segment, and writes down which it recognised."""

    def __init__(self, record: Path) -> None:
        self._record = os.open(record, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    async def run(
        self, upload: Upload, options: TranscribeOptions, journal: Journal
    ) -> AsyncGenerator[StreamEvent]:
        audio = np.zeros(N_SEGMENTS * SEGMENT_MS * 16, np.int16)
        before = await journal.before(audio)
        segments = list(before.segments)
        if not before.is_all:
            told = len(segments)
            segments += [
                Segment(i, i * SEGMENT_MS, (i + 1) * SEGMENT_MS) for i in range(told, N_SEGMENTS)
            ]
            await journal.planned(segments[told:], is_all=True)
        answers = dict(before.answers)
        name = bytes(upload).decode()
        for segment in segments:
            if segment.index not in answers:
                await asyncio.sleep(random.expovariate(1 / SEGMENT_TAKES_S))
                os.write(self._record, f"{name} {segment.index}\n".encode())
                answers[segment.index] = Answer(Recognition(f"{name}-{segment.index}"))
                found = {segment.index: answers[segment.index]}
                await journal.keep(found, merge([segment], answers))
        merged = merge(segments, answers)
        yield Done(
            Transcript(
                text="".join(segment.text for segment in merged),
                duration_ms=len(audio) // 16,
                segments=tuple(merged),
                language="zh",
                model="played",
                has_word_times=False,
            )
        )


async def work(url: str, folder: Path, receiver: str) -> None:
    """Works until the process is killed."""
    engine = connect(url)
    await migrate(engine)
    settings = JobsSettings(lease_s=LEASE_S, max_running=AT_ONCE, max_attempts=1000)
    objects, store = marked_folder(folder / "objects"), Store(engine, max_waiting=10**6)
    leases = Leases(engine, new_id("worker"), lease_s=LEASE_S)
    worker = Worker(
        engine,
        leases,
        objects,
        cast(Pipeline, Played(folder / "recognised")),
        settings,
        model="played",
        has_room=_always,
        fetch=None,
    )

    async def describe(job: str) -> dict[str, Any]:
        row, files = await store.find(job, None)
        return {"id": row.id, "state": row.state, "finished_at": row.finished_s, "n": len(files)}

    guard = Guard(allowed((receiver,), ()))
    await asyncio.gather(worker.run(), Sender(Outbox(engine), guard, describe).run())


async def _always() -> bool:
    return True


if __name__ == "__main__":
    asyncio.run(work(sys.argv[1], Path(sys.argv[2]), sys.argv[3]))
