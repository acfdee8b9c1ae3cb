"""A job as its client sees it: the JSON of the API, made from rows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from deployments.core.jobs.model import COMPLETED, FAILED, QUEUED, Json
from deployments.jobs.store import Row


@dataclass(frozen=True, slots=True)
class Outlook:
    """What stands before a job, and how fast it goes; None where it cannot be told."""

    n_files_ahead: int | None = None  # in the queue, before the first file that waits
    ahead_ms: int | None = 0  # their audio
    others_s: float = 0.0  # how long the pools need for requests that go first
    speed: float = 0.0  # audio seconds that all pools together recognise in a second
    now_s: float = 0.0


def job_json(row: Row, files: Sequence[Row], outlook: Outlook) -> Json:
    """The job with its files."""
    total_ms = _sum([file.duration_ms for file in files])
    return {
        "id": row.id,
        "object": "transcription_job",
        "name": row.name,
        "state": row.state,
        "created_at": row.created_s,
        "started_at": min((f.started_s for f in files if f.started_s is not None), default=None),
        "finished_at": row.finished_s,
        "expires_at": row.expires_s,
        "priority": files[0].priority,
        "metadata": json.loads(row.labels),
        "webhook": row.webhook_url,
        "progress": _progress(sum(_done_ms(file) for file in files), total_ms),
        "queue_position": outlook.n_files_ahead,
        "expected_end_at": _expected_end_s(files, outlook),
        "files": [file_json(file) for file in files],
    }


def file_json(file: Row) -> Json:
    error = {"code": file.error_code, "message": file.error} if file.state == FAILED else None
    return {
        "index": file.number,
        "name": file.name,
        "url": file.url,
        "state": file.state,
        "bytes": file.n_bytes,
        "duration": None if file.duration_ms is None else file.duration_ms / 1000,
        "progress": _progress(_done_ms(file), file.duration_ms),
        "error": error,
    }


def _progress(done_ms: float, total_ms: float | None) -> Json:
    return {
        "audio_s_done": round(done_ms / 1000, 1),
        "audio_s_total": None if total_ms is None else round(total_ms / 1000, 1),
    }


def _done_ms(file: Row) -> float:
    """Audio that is done. Silence counts in proportion, once the VAD has found all speech.

    This never goes back: before that moment only the speech counts, which is less.
    """
    if file.state == COMPLETED:
        return float(file.duration_ms or 0)
    if not file.is_planned or not file.speech_ms or file.duration_ms is None:
        return float(file.done_ms)
    return float(file.done_ms * max(file.duration_ms, file.speech_ms) / file.speech_ms)


def _sum(parts: Sequence[Any]) -> float | None:
    known: list[float] = [part for part in parts if part is not None]
    return sum(known) if len(known) == len(parts) else None


def _expected_end_s(files: Sequence[Row], outlook: Outlook) -> float | None:
    """When the last file will have ended. None if a length or a speed is not known yet."""
    still_open = [file for file in files if file.finished_s is None]
    left_ms = _sum([file.duration_ms for file in still_open])
    if not still_open or left_ms is None or outlook.ahead_ms is None or outlook.speed <= 0:
        return None
    left_ms -= sum(_done_ms(file) for file in still_open)
    seconds = outlook.others_s + (outlook.ahead_ms + left_ms) / 1000 / outlook.speed
    return round(outlook.now_s + seconds, 1)


def first_waiting(files: Sequence[Row]) -> Row | None:
    return next((file for file in files if file.state == QUEUED), None)
