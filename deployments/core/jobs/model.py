"""What a transcription job is made of, as the HTTP front hands it to the deployment of jobs."""

from __future__ import annotations

import base64
import re
import time
from dataclasses import dataclass, field
from secrets import token_bytes
from typing import Any, Literal, TypeAlias

from deployments.core.types import TranscribeOptions

Json: TypeAlias = dict[str, Any]
State: TypeAlias = Literal["queued", "processing", "completed", "failed", "canceled"]

ID = re.compile(r"[a-z]+_[0-9a-v]{24}")
NAME_CHARS = 200
KEY_CHARS = 255  # of an Idempotency-Key, whose length the draft standard leaves open

QUEUED: State = "queued"
PROCESSING: State = "processing"
COMPLETED: State = "completed"
FAILED: State = "failed"
CANCELED: State = "canceled"
STATES: tuple[State, ...] = (QUEUED, PROCESSING, COMPLETED, FAILED, CANCELED)
OPEN: tuple[State, ...] = (QUEUED, PROCESSING)
ENDED: tuple[State, ...] = (COMPLETED, FAILED, CANCELED)


@dataclass(frozen=True, slots=True)
class NewFile:
    """A recording of a new job: an object that is stored already, or a URL to be fetched."""

    name: str
    url: str | None = None
    object_key: str | None = None
    n_bytes: int | None = None
    sha256: str | None = None
    duration_ms: int | None = None  # as its head announces; decoding tells the truth


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job as its client asked for it. The front makes the id and stores objects under it."""

    id: str
    files: tuple[NewFile, ...]
    options: TranscribeOptions
    body_hash: str  # SHA-256 of all that the client sent
    owner: str = ""  # the id of the client's API key; empty where no keys are used
    name: str = ""
    labels: Json = field(default_factory=dict)  # the client's own `metadata`
    webhook_url: str | None = None
    priority: int = 0
    expires_after_s: float | None = None
    idempotency_key: str | None = None
    max_waiting: int | None = None  # files of the owner that may wait; None: the service's limit


@dataclass(frozen=True, slots=True)
class Query:
    """Which jobs a list has. They are listed from the newest on."""

    limit: int = 20
    after: str | None = None  # the `next_cursor` of the page before
    states: tuple[State, ...] = ()  # empty: all
    created_after_s: float | None = None
    created_before_s: float | None = None


def new_id(kind: str) -> str:
    """An id such as `job_068q3v...`, whose order is that of time to a millisecond."""
    stamp = (time.time_ns() // 1_000_000).to_bytes(6, "big")
    text = base64.b32hexencode(stamp + token_bytes(9)).decode("ascii")
    return f"{kind}_{text.lower()}"


def is_id(name: str, kind: str) -> bool:
    """Whether the text has the form of an id of `new_id`."""
    return ID.fullmatch(name) is not None and name.startswith(f"{kind}_")


def created_s(name: str) -> float:
    """When the id was made, in seconds since 1970. 0 for a text that is no id."""
    try:
        raw = base64.b32hexdecode(name.rpartition("_")[2].upper().encode("ascii"))
    except ValueError:
        return 0.0
    return int.from_bytes(raw[:6], "big") / 1000


def job_state(files: list[State] | tuple[State, ...]) -> State:
    """The state of a job whose files have these states. It is completed only if all of them are."""
    if not all(state in ENDED for state in files):
        return QUEUED if all(state == QUEUED for state in files) else PROCESSING
    if all(state == COMPLETED for state in files):
        return COMPLETED
    return FAILED if FAILED in files else CANCELED
