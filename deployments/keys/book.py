"""The accounts of all keys: who is inside, what was used, and what is not written down yet.

It knows neither Ray nor a database. The deployment passes the time, and writes what `take` gives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from deployments.keys.limits import Account, day_of
from deployments.keys.messages import Left, Open, Used
from deployments.keys.records import Key, KeyLimits

REMEMBER_S = 120.0  # an ingress says again what it could not say: not for so long


class Book:
    """`now_s` is a monotonic clock, `today_s` counts from 1970."""

    def __init__(self, now_s: Callable[[], float], today_s: Callable[[], float]) -> None:
        self._now_s, self._today_s = now_s, today_s
        self.keys: Mapping[str, Key] = {}
        self._accounts: dict[str, Account] = {}
        self._held: dict[str, dict[str, str]] = {}  # ingress -> permit -> key
        self._left: dict[str, float] = {}  # when each request ended, so that it is charged once
        self._used_today: Mapping[str, int] = {}  # what the database had at the start
        self._started_on = day_of(today_s())
        self._unwritten: dict[tuple[str, str, str], tuple[int, int]] = {}

    @property
    def today(self) -> str:
        return day_of(self._today_s())

    def begin(self, used_today: Iterable[Used]) -> None:
        """Takes over what the day has had already. Nothing may be noted before."""
        sums: dict[str, int] = {}
        for one in used_today:
            sums[one.key] = sums.get(one.key, 0) + one.audio_ms
        self._used_today = sums

    def change_keys(self, keys: Mapping[str, Key]) -> None:
        self.keys = keys
        for id, account in self._accounts.items():
            if id in keys:
                account.change_limits(keys[id].limits, self._now_s())

    def enter(self, ingress: str, permit: str, id: str, n_bytes: int) -> None:
        """Notes that the request begins. Raises LimitExceeded, and KeyError for no such key."""
        if id not in self.keys:
            raise KeyError(id)
        account = self._account(id)
        account.drop_silent(self._now_s())
        account.enter(permit, n_bytes, now_s=self._now_s(), today_s=self._today_s())
        self._held.setdefault(ingress, {})[permit] = id

    def hear(self, ingress: str, held: Mapping[str, Open]) -> None:
        """Takes what an ingress says is open. What it no longer names has ended."""
        now_s = self._now_s()
        before = self._held.get(ingress, {})
        for permit, request in held.items():
            if permit not in self._left and request.key in self.keys:
                account = self._account(request.key)
                account.learn(permit, request.n_bytes, age_s=request.age_s, now_s=now_s)
        for permit in before.keys() - held.keys():
            self._account(before[permit]).forget(permit, now_s)
        young = {p: id for p, id in before.items() if self._account(id).has(p)}
        self._held[ingress] = young | {permit: request.key for permit, request in held.items()}

    def leave(self, left: Left) -> None:
        """Ends the request and charges it. Does nothing for one that has ended already."""
        if left.permit in self._left:
            return
        now_s, today = self._now_s(), self.today
        self._left[left.permit] = now_s
        self._account(left.key).leave(left.permit, left.audio_ms, now_s=now_s, day=today)
        if left.audio_ms:
            place = (today, left.key, left.model)
            audio_ms, n_requests = self._unwritten.get(place, (0, 0))
            self._unwritten[place] = (audio_ms + left.audio_ms, n_requests + 1)

    def tidy(self) -> None:
        """Drops the permits of ingresses that have died, and what nobody will ask again."""
        now_s = self._now_s()
        for account in self._accounts.values():
            account.drop_silent(now_s)
        self._left = {p: s for p, s in self._left.items() if now_s - s < REMEMBER_S}
        self._held = {
            ingress: permits
            for ingress, permits in self._held.items()
            if any(self._account(id).has(permit) for permit, id in permits.items())
        }

    def take(self) -> list[Used]:
        """What is to be written. `put_back` it where that fails."""
        taken, self._unwritten = self._unwritten, {}
        return [Used(*place, *counts) for place, counts in taken.items()]

    def put_back(self, used: Iterable[Used]) -> None:
        for one in used:
            place = (one.day, one.key, one.model)
            audio_ms, n_requests = self._unwritten.get(place, (0, 0))
            self._unwritten[place] = (audio_ms + one.audio_ms, n_requests + one.n_requests)

    def unwritten(self) -> list[Used]:
        return [Used(*place, *counts) for place, counts in self._unwritten.items()]

    def _account(self, id: str) -> Account:
        if id not in self._accounts:
            key, today = self.keys.get(id), self.today  # a key may have been revoked meanwhile
            limits = key.limits if key else KeyLimits()
            day_ms = self._used_today.get(id, 0) if today == self._started_on else 0
            self._accounts[id] = Account(limits, now_s=self._now_s(), day=today, day_ms=day_ms)
        return self._accounts[id]
