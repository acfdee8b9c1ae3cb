"""What the scheduler is told and what it orders. Times are milliseconds of the caller's clock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class PoolSize:
    """A pool has this many running replicas now.

    With their names, where the caller can send a chunk to one of them: then every order says which.
    """

    pool: str
    n_replicas: int
    replicas: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Submit:
    """Segments of a request to recognise: index -> length.

    May come again, with further ones or with what is left.
    """

    request: str
    lengths_ms: dict[int, int]
    again: bool = False  # of a request that was taken before: never refused
    coming_ms: int = 0  # at most so much more will be submitted: its recording is still being read
    interactive: bool | None = None  # goes before the others; None: if it is short


@dataclass(frozen=True, slots=True)
class Finished:
    """A chunk was answered by a replica that merged it with others into one batch or not.

    `padded_ms` and `busy_ms` are the chunk's part of what was done at once; `share` is that part,
    0..1.
    """

    order: int
    padded_ms: int
    busy_ms: float
    replica: str = ""  # empty: not known
    share: float = 1.0
    n_batches: int = 1  # more than one where small chunks, or little memory, made it several
    audio_ms: int = 0  # of the chunk, without padding; this and the next are for the tallies
    n_out_of_memory: int = 0


@dataclass(frozen=True, slots=True)
class Lost:
    """A chunk was not answered, mostly because its replica died; it may go elsewhere."""

    order: int
    replica: str = ""  # the one that died; empty: not known
    replica_lives: bool = False  # it answered, but could read nothing of the chunk


@dataclass(frozen=True, slots=True)
class Cancel:
    """The request is over, or its client has gone."""

    request: str


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed: the chunks that are late are looked at."""


Event: TypeAlias = PoolSize | Submit | Finished | Lost | Cancel | Tick


@dataclass(frozen=True, slots=True)
class Order:
    """Send these segments of this request to that pool, as one chunk."""

    order: int
    request: str
    pool: str
    segments: tuple[int, ...]
    attempts: tuple[int, ...]  # of each segment, this one counted
    replica: str = ""  # of the pool, another if that is gone or full; empty: any


@dataclass(frozen=True, slots=True)
class GiveUp:
    """These segments were lost too often."""

    request: str
    segments: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Refuse:
    """The request was not taken: what waits already cannot be done in the promised time."""

    request: str
    retry_after_s: float


Action: TypeAlias = Order | GiveUp | Refuse
