"""The events that the scheduler is told and the actions that it answers with.

Times are milliseconds of the caller's clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class PoolSize:
    """The names of the replicas that a pool runs now."""

    pool: str
    replicas: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Submit:
    """Segments of a request to recognise: index -> length.

    A request may be submitted again: with more segments, or after a restart of the dispatcher with
    those that have no answer yet.
    """

    request: str
    lengths_ms: dict[int, int]
    again: bool = False  # the request was admitted before, so it is not refused now
    coming_ms: int = 0  # audio that may still be submitted, while the VAD reads the recording
    interactive: bool | None = None  # goes before other requests; None: decided by its length
    background: bool = False  # goes behind all other requests, and is never refused


@dataclass(frozen=True, slots=True)
class Finished:
    """A replica answered a chunk.

    The replica may have computed the chunk together with others. `share` is the chunk's part of
    that work, 0..1; `padded_ms` and `busy_ms` are already that part of the padded audio and time.
    """

    order: int
    padded_ms: int
    busy_ms: float
    replica: str
    share: float = 1.0
    n_batches: int = 1  # of all the work together: little memory makes several of one chunk
    audio_ms: int = 0  # of the chunk, without padding; only for statistics
    n_out_of_memory: int = 0  # batches that did not fit into memory; only for statistics


@dataclass(frozen=True, slots=True)
class Lost:
    """A chunk was not answered, in most cases because its replica died."""

    order: int
    replica: str = ""  # the one that died, or that lives; empty: not known
    replica_lives: bool = False  # the replica answered that it could recognise nothing of the chunk


@dataclass(frozen=True, slots=True)
class Cancel:
    """The request has ended, or its client has disconnected."""

    request: str


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed: late chunks are looked for."""


Event: TypeAlias = PoolSize | Submit | Finished | Lost | Cancel | Tick


@dataclass(frozen=True, slots=True)
class Order:
    """Send these segments of this request to that pool, as one chunk."""

    order: int
    request: str
    pool: str
    segments: tuple[int, ...]
    attempts: tuple[int, ...]  # of each segment, this one counted
    replica: str = ""  # another of the pool if it is gone or full; empty: the first that starts


@dataclass(frozen=True, slots=True)
class GiveUp:
    """These segments will not be recognised: they were lost too often."""

    request: str
    segments: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Refuse:
    """The request is not admitted: the queue is longer than the promised waiting time."""

    request: str
    retry_after_s: float


Action: TypeAlias = Order | GiveUp | Refuse
