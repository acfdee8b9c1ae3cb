"""What one key uses now: its open requests, and the audio of this minute and of this day.

Pure: clocks are passed. The length of a recording is known only when it has been read. Until then
a request holds an estimate, so that many that begin at once do not pass the limit together. The
estimate follows from the bytes of the upload and from what the key has sent before.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from deployments.core.errors import LimitExceeded
from deployments.keys.records import KeyLimits

MINUTE_S, DAY_S = 60.0, 86_400.0
SILENT_S = 10.0  # an ingress that has not told of a permit for so long has died
GRACE_S = 5.0  # a permit that was given just now is not yet in what an ingress tells
FIRST_BYTES_PER_MS = 32.0  # 16 kHz and 16 bits, until a key has sent something
SMALL_BYTES = 4096  # of a form that has a URL and no recording
WEIGHT = 0.3  # of the newest request, in the running means
FIRST_HOLD_S = 5.0  # how long a request takes, until the first has ended
LEAST_WAIT_S = 1.0
MARGIN_S = 0.01  # past the moment at which the minute has nothing left


def day_of(now_s: float) -> str:
    """The day in UTC, such as 2026-11-27. `now_s` counts from 1970."""
    return time.strftime("%Y-%m-%d", time.gmtime(now_s))


@dataclass(frozen=True, slots=True)
class Permit:
    """A request under way. Times are of a monotonic clock."""

    began_s: float
    told_s: float  # when its ingress last said that the request is still open
    n_bytes: int
    held_ms: float  # of audio, estimated


class Account:
    """The permits and the audio of one key."""

    def __init__(self, limits: KeyLimits, *, now_s: float, day: str, day_ms: float = 0.0) -> None:
        """`day_ms` is the audio that was charged on this day already."""
        self.limits = limits
        self._permits: dict[str, Permit] = {}
        self._level_ms, self._at_s = self._capacity_ms, now_s
        self._day, self._day_ms = day, day_ms
        self._ms_per_byte = 1 / FIRST_BYTES_PER_MS
        self._usual_ms, self._usual_hold_s = 0.0, FIRST_HOLD_S

    @property
    def n_open(self) -> int:
        return len(self._permits)

    def has(self, permit: str) -> bool:
        return permit in self._permits

    def change_limits(self, limits: KeyLimits, now_s: float) -> None:
        """What was used of the minute stays used."""
        self._refill(now_s)
        used_ms = self._capacity_ms - self._level_ms
        self.limits = limits
        self._level_ms = self._capacity_ms - used_ms

    def enter(self, permit: str, n_bytes: int, *, now_s: float, today_s: float) -> None:
        """Notes the request. Raises LimitExceeded. `today_s` counts from 1970, `now_s` does not."""
        if (wait := self._wait(now_s, today_s)) is not None:
            raise LimitExceeded(*wait)
        self._hold(permit, n_bytes, began_s=now_s, now_s=now_s)

    def learn(self, permit: str, n_bytes: int, *, age_s: float, now_s: float) -> None:
        """Notes that the request is open, also where this account has not let it in."""
        if permit in self._permits:
            self._permits[permit] = replace(self._permits[permit], told_s=now_s)
        else:
            self._hold(permit, n_bytes, began_s=now_s - age_s, now_s=now_s)

    def leave(self, permit: str, audio_ms: int, *, now_s: float, day: str) -> None:
        """Ends the request, and charges the audio that it had. The permit may be gone already."""
        held = self._release(permit, now_s)
        self._take(audio_ms, now_s)
        self._day_ms = audio_ms + (self._day_ms if day == self._day else 0.0)
        self._day = day
        if held is None:
            return
        self._usual_hold_s += WEIGHT * (now_s - held.began_s - self._usual_hold_s)
        if audio_ms:
            self._usual_ms += WEIGHT * (audio_ms - self._usual_ms)
        if audio_ms and held.n_bytes > SMALL_BYTES:
            self._ms_per_byte += WEIGHT * (audio_ms / held.n_bytes - self._ms_per_byte)

    def forget(self, permit: str, now_s: float) -> None:
        """Drops a permit that its ingress no longer names, unless it was given just now."""
        if permit in self._permits and now_s - self._permits[permit].began_s > GRACE_S:
            self._release(permit, now_s)

    def drop_silent(self, now_s: float) -> None:
        """Drops the permits of which nothing was heard."""
        for permit in [k for k, p in self._permits.items() if now_s - p.told_s > SILENT_S]:
            self._release(permit, now_s)

    @property
    def _capacity_ms(self) -> float:
        return 1000 * (self.limits.audio_s_per_minute or 0.0)

    def _hold(self, permit: str, n_bytes: int, *, began_s: float, now_s: float) -> None:
        """The estimate is taken from the minute at once, which goes on to fill meanwhile."""
        held_ms = self._estimate_ms(n_bytes)
        self._permits[permit] = Permit(began_s, now_s, n_bytes, held_ms)
        self._take(held_ms, now_s)

    def _release(self, permit: str, now_s: float) -> Permit | None:
        held = self._permits.pop(permit, None)
        self._take(-held.held_ms if held else 0.0, now_s)
        return held

    def _take(self, audio_ms: float, now_s: float) -> None:
        self._refill(now_s)
        if self.limits.audio_s_per_minute is not None:
            self._level_ms -= audio_ms

    def _refill(self, now_s: float) -> None:
        added_ms = self._capacity_ms / MINUTE_S * (now_s - self._at_s)
        self._level_ms = min(self._capacity_ms, self._level_ms + added_ms)
        self._at_s = now_s

    def _estimate_ms(self, n_bytes: int) -> float:
        return n_bytes * self._ms_per_byte if n_bytes > SMALL_BYTES else self._usual_ms

    def _wait(self, now_s: float, today_s: float) -> tuple[str, float] | None:
        """The limit that is reached, and the seconds until it will allow the next request."""
        limits = self.limits
        if limits.max_concurrent is not None and self.n_open >= limits.max_concurrent:
            return f"{limits.max_concurrent} requests at a time", self._first_end_s(now_s)
        if limits.audio_s_per_day is not None:
            used_ms = self._day_ms if self._day == day_of(today_s) else 0.0
            held_ms = sum(one.held_ms for one in self._permits.values())
            limit_ms = 1000 * limits.audio_s_per_day
            said = f"{limits.audio_s_per_day:g} s of audio a day"
            if used_ms >= limit_ms:
                return said, DAY_S - today_s % DAY_S
            if used_ms + held_ms >= limit_ms:
                return said, self._first_end_s(now_s)
        if limits.audio_s_per_minute is not None:
            self._refill(now_s)
            if self._level_ms <= 0:
                wait_s = -self._level_ms / self._capacity_ms * MINUTE_S
                said = f"{limits.audio_s_per_minute:g} s of audio a minute"
                return said, _at_least(wait_s + MARGIN_S)
        return None

    def _first_end_s(self, now_s: float) -> float:
        """Seconds until the oldest request should end, by how long the key's requests take."""
        oldest_s = min((one.began_s for one in self._permits.values()), default=now_s)
        return _at_least(self._usual_hold_s - (now_s - oldest_s))


def _at_least(wait_s: float) -> float:
    return max(LEAST_WAIT_S, wait_s)
