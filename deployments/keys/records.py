"""A key, its limits and its scopes, and the caller that a request has for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

SCOPES = ("transcribe", "jobs", "operate")


@dataclass(frozen=True, slots=True)
class KeyLimits:
    """What a key may use. None: as much as the service gives."""

    max_concurrent: int | None = None
    audio_s_per_minute: float | None = None
    audio_s_per_day: float | None = None  # of a day in UTC
    max_upload_mb: float | None = None  # of 1,000,000 bytes
    max_waiting_files: int | None = None  # of jobs, waiting or worked at

    @property
    def needs_permits(self) -> bool:
        """Whether all ingresses together have to count."""
        counted = (self.max_concurrent, self.audio_s_per_minute, self.audio_s_per_day)
        return any(limit is not None for limit in counted)

    def or_else(self, defaults: KeyLimits) -> KeyLimits:
        """These limits, with those of `defaults` where they have none."""
        own = {name: getattr(self, name) for name in LIMITS if getattr(self, name) is not None}
        return replace(defaults, **own)


LIMITS = tuple(one.name for one in fields(KeyLimits))


@dataclass(frozen=True, slots=True)
class Key:
    """A key as it is kept. The secret itself is nowhere, only its SHA-256."""

    id: str
    name: str
    hash: str = field(repr=False)
    scopes: tuple[str, ...] = SCOPES
    limits: KeyLimits = KeyLimits()
    old_hash: str | None = field(default=None, repr=False)  # of the secret before a rotation
    old_until_s: float = 0.0  # since 1970; the old secret is valid until then
    expires_s: float | None = None  # since 1970


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request. Handlers find it as `request.state.caller`."""

    id: str  # of the key; "": none
    name: str
    scopes: tuple[str, ...]
    max_upload_mb: float | None = None
    max_waiting_files: int | None = None

    def may(self, scope: str) -> bool:
        return scope in self.scopes


ANYONE = Caller("", "", SCOPES)  # where no key is needed
NOBODY = Caller("", "", ())  # where one is needed, on a path that is open


def caller_of(key: Key) -> Caller:
    limits = key.limits
    return Caller(key.id, key.name, key.scopes, limits.max_upload_mb, limits.max_waiting_files)


def checked_scopes(names: tuple[str, ...]) -> tuple[str, ...]:
    """The scopes in their usual order. Raises ValueError for one that does not exist, or none."""
    unknown = [name for name in names if name not in SCOPES]
    if unknown or not names:
        given = repr(unknown[0]) if unknown else "none"
        raise ValueError(f"A key has scopes of {', '.join(SCOPES)}; given is {given}.")
    return tuple(scope for scope in SCOPES if scope in names)


def checked_limits(given: Mapping[str, Any]) -> KeyLimits:
    """The limits. Raises ValueError for an unknown one, or one that is not above 0."""
    whole = ("max_concurrent", "max_waiting_files")
    found: dict[str, Any] = {}
    for name, value in given.items():
        if name not in LIMITS:
            raise ValueError(f"There is no limit {name!r}; there are {', '.join(LIMITS)}.")
        number = int(value) if name in whole else float(value)
        if not number > 0:
            raise ValueError(f"{name} is {value}; it must be above 0.")
        found[name] = number
    return KeyLimits(**found)
