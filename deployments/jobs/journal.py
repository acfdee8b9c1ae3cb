"""The journal of a job's file: what its worker has done, in the database.

The rows belong to a basis: this recording, read in this way by this model. Rows of another basis
are removed, and the work begins anew.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import sqlalchemy as sa
from pydantic import TypeAdapter
from sqlalchemy.ext.asyncio import AsyncEngine

from deployments.core.jobs.objects import peaks_key
from deployments.core.segments import Answer
from deployments.core.types import SAMPLES_PER_MS, Audio, Segment, TranscriptSegment
from deployments.database.tables import files, segments
from deployments.jobs.leases import Lease, Leases
from deployments.objects import Objects
from deployments.request.journal import Before

ANSWER = TypeAdapter(Answer)
PEAKS_PER_S = 20
SAMPLES_PER_PEAK = 1000 * SAMPLES_PER_MS // PEAKS_PER_S
FULL_SCALE = 32_768


class SqlJournal:
    """A `Journal` whose every write also prolongs the lease. Raises LeaseLost and StorageFailed."""

    def __init__(
        self, engine: AsyncEngine, leases: Leases, lease: Lease, objects: Objects, basis: str
    ) -> None:
        self._engine, self._leases, self._lease = engine, leases, lease
        self._objects, self._basis = objects, basis
        self._lengths_ms: dict[int, int] = {}
        self._done_ms = 0
        self._n_told = 0  # final segments that are in the database

    async def before(self, audio: Audio) -> Before:
        duration_ms = len(audio) // SAMPLES_PER_MS
        peaks = await asyncio.to_thread(lambda: json.dumps(peaks_of(audio)).encode())
        await self._objects.put(peaks_key(self._lease.job, self._lease.number), peaks)
        file, rows = await self._rows()
        if file.basis != self._basis:
            values = {"basis": self._basis, "duration_ms": duration_ms}
            await self._leases.forget(self._lease, **values)
            return Before()
        await self._leases.prolong(self._lease, duration_ms=duration_ms)
        known = [Segment(row.at, row.start_ms, row.end_ms) for row in rows]
        self._lengths_ms = {segment.index: segment.n_ms for segment in known}
        # A segment that failed is told anew: this attempt may hear it.
        told = [bool(row.final and row.answer) for row in rows]
        self._n_told = told.index(False) if False in told else len(told)
        answers = {row.at: ANSWER.validate_json(row.answer) for row in rows if row.answer}
        self._done_ms = sum(self._lengths_ms[index] for index in answers)
        return Before(segments=known, is_all=file.is_planned, answers=answers)

    async def planned(self, segments: Sequence[Segment], *, is_all: bool) -> None:
        self._lengths_ms |= {segment.index: segment.n_ms for segment in segments}
        rows = [{"index": s.index, "start_ms": s.start_ms, "end_ms": s.end_ms} for s in segments]
        found = {"speech_ms": sum(self._lengths_ms.values())}
        await self._leases.plan(self._lease, rows, is_all=is_all, **found)

    async def keep(self, answers: Mapping[int, Answer], final: Sequence[TranscriptSegment]) -> None:
        """An answer with an error is not kept, so that a later attempt tries it again."""
        kept = {i: answer for i, answer in answers.items() if answer.recognition.error is None}
        fresh = [segment for segment in final if segment.index >= self._n_told]
        if not kept and not fresh:
            return
        self._done_ms += sum(self._lengths_ms[index] for index in kept)
        await self._leases.keep(
            self._lease,
            {index: ANSWER.dump_json(answer).decode() for index, answer in kept.items()},
            {segment.index: json.dumps(shown(segment), ensure_ascii=False) for segment in fresh},
            done_ms=self._done_ms,
        )
        self._n_told += len(fresh)

    async def _rows(self) -> tuple[Any, Sequence[Any]]:
        job, number = self._lease.job, self._lease.number
        mine = sa.select(files).where(files.c.job == job, files.c.number == number)
        at = segments.c.index.label("at")  # a row has a method `index`
        columns = (at, segments.c.start_ms, segments.c.end_ms, segments.c.answer, segments.c.final)
        known = sa.select(*columns).where(segments.c.job == job, segments.c.number == number)
        async with self._engine.begin() as connection:
            file = (await connection.execute(mine)).one()
            rows = (await connection.execute(known.order_by(segments.c.index))).all()
        return file, rows


def shown(segment: TranscriptSegment) -> dict[str, Any]:
    """A final segment as watchers of the job get it. Times in seconds."""
    words = [
        {"word": word.text + word.mark, "start": word.start_ms / 1000, "end": word.end_ms / 1000}
        for word in segment.words
    ]
    return {
        "index": segment.index,
        "start": segment.start_ms / 1000,
        "end": segment.end_ms / 1000,
        "text": segment.text,
        "words": words,
        "error": segment.error,
    }


def peaks_of(audio: Audio) -> dict[str, Any]:
    """The loudest sample of each twentieth of a second, 0..255, for drawing a waveform."""
    n_peaks = -(-len(audio) // SAMPLES_PER_PEAK)  # the last one may be shorter
    loudest = np.empty(n_peaks, np.uint8)
    for first in range(0, n_peaks, 10_000):  # bounded memory, however long the recording
        last = min(n_peaks, first + 10_000)
        piece = audio[first * SAMPLES_PER_PEAK : last * SAMPLES_PER_PEAK].astype(np.int32)
        starts = np.arange(0, len(piece), SAMPLES_PER_PEAK)
        loudest[first:last] = np.maximum.reduceat(np.abs(piece), starts) * 255 // FULL_SCALE
    return {
        "per_second": PEAKS_PER_S,
        "duration": len(audio) / SAMPLES_PER_MS / 1000,
        "peaks": base64.b64encode(loudest.tobytes()).decode("ascii"),
    }
