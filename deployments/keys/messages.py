"""What the ingresses and the `Keys` deployment tell each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from deployments.keys.records import Key


@dataclass(frozen=True, slots=True)
class Open:
    """A request that is under way with a permit."""

    key: str
    n_bytes: int
    age_s: float


@dataclass(frozen=True, slots=True)
class Left:
    """A request that has ended. `model` and `audio_ms` are what it is charged for, if anything."""

    permit: str  # a request's own id, also where it needed no permit
    key: str
    model: str = ""
    audio_ms: int = 0


@dataclass(frozen=True, slots=True)
class Told:
    """The keys, where they differ from those that the ingress has; else None."""

    revision: int
    keys: Mapping[str, Key] | None = field(default=None, repr=False)
    session_secret: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Used:
    """What a key has used of a model on a day."""

    day: str  # in UTC, such as 2026-11-27
    key: str
    model: str
    audio_ms: int
    n_requests: int
