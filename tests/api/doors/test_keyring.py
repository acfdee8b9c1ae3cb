"""An ingress's copy of the keys: while `Keys` is silent, and when a call of it fails."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from deployments.api.doors import keyring
from deployments.api.doors.keyring import Keyring
from deployments.api.doors.rules import Shown
from deployments.core.errors import LimitExceeded, Overloaded, TimedOut
from deployments.keys.messages import Left, Open, Told
from deployments.keys.records import Key, KeyLimits
from deployments.keys.secrets import hash_of, id_of, new_id, new_key
from deployments.request.calls import ReplicaDied

TEXT = new_key(new_id())
TOM = Key(str(id_of(TEXT)), "tom", hash_of(TEXT), limits=KeyLimits(max_concurrent=1))


class Counting:
    """A `Keys` deployment that answers as the test says, and notes what it hears."""

    def __init__(self) -> None:
        self.fails: list[Exception] = []  # of the next calls, before one succeeds
        self.is_silent = False
        self.held: list[dict[str, Open]] = []
        self.left: list[Left] = []
        self.entered: list[str] = []

    async def tell(self, ingress: str, held: dict[str, Open], left: list[Left], seen: int) -> Told:
        self._answer()
        self.held.append(held)
        self.left += left
        return Told(1, {TOM.id: TOM} if seen != 1 else None, "secret")

    async def enter(self, ingress: str, permit: str, key: str, n_bytes: int) -> None:
        self._answer()
        self.entered.append(permit)

    async def leave(self, left: Left) -> None:
        self._answer()
        self.left.append(left)

    def _answer(self) -> None:
        if self.is_silent:
            raise TimedOut("keys", 1.0)
        if self.fails:
            raise self.fails.pop(0)


class Handle:
    def __init__(self, target: Counting) -> None:
        self._target = target

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._target, name)
        remote: Callable[..., Any] = lambda *given: asyncio.ensure_future(method(*given))  # noqa: E731
        return type("Method", (), {"remote": staticmethod(remote)})


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test waits for seconds."""
    for name, seconds in {
        "TELL_S": 0.05,
        "GATHER_S": 0.01,
        "PAUSE_S": 0.01,
        "READY_TIMEOUT_S": 0.1,
        "REPLACED_S": 0.3,
    }.items():
        monkeypatch.setattr(keyring, name, seconds)


async def ask_for_seconds(ring: Keyring) -> None:
    for _ in range(100):
        await ring.ready()
        await asyncio.sleep(0.02)


def test_a_replica_that_dies_costs_no_request() -> None:
    async def run() -> None:
        keys = Counting()
        ring = Keyring(Handle(keys))
        await ring.ready()
        keys.fails = [ReplicaDied("gone"), TimedOut("keys", 5.0)]

        permit = await ring.enter(TOM, 5)

        assert keys.entered == [permit]

    asyncio.run(run())


def test_a_refusal_is_not_asked_for_again() -> None:
    async def run() -> None:
        keys = Counting()
        ring = Keyring(Handle(keys))
        await ring.ready()
        keys.fails = [LimitExceeded("1 requests at a time", 3.0)]

        with pytest.raises(LimitExceeded):
            await ring.enter(TOM, 5)

        assert keys.entered == []

    asyncio.run(run())


def test_an_end_that_could_not_be_told_is_told_later() -> None:
    async def run() -> None:
        keys = Counting()
        ring = Keyring(Handle(keys))
        await ring.ready()
        permit = await ring.enter(TOM, 5)
        end = Left(permit, TOM.id, "m", 1000)
        keys.fails = [ReplicaDied("gone")]

        await ring.leave(end)
        await asyncio.sleep(0.2)

        assert keys.left == [end]
        assert keys.held[-1] == {}

    asyncio.run(run())


def test_what_is_open_is_told_again_and_again() -> None:
    async def run() -> None:
        keys = Counting()
        ring = Keyring(Handle(keys))
        await ring.ready()

        permit = await ring.enter(TOM, 5)
        await asyncio.sleep(0.2)

        assert keys.held[-1].keys() == {permit}
        assert (keys.held[-1][permit].key, keys.held[-1][permit].n_bytes) == (TOM.id, 5)
        assert keys.held[-1][permit].age_s > 0

    asyncio.run(run())


def test_without_a_word_of_keys_the_copy_is_used_for_a_while_and_then_nobody_comes_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(keyring, "VALID_S", 0.3)

    async def run() -> None:
        keys = Counting()
        ring = Keyring(Handle(keys))
        await ring.ready()
        keys.is_silent = True
        silent_s = time.monotonic()

        await ring.ready()
        assert ring.key_of(Shown(key=TEXT)) == TOM
        with pytest.raises(Overloaded):
            await ask_for_seconds(ring)
        assert time.monotonic() - silent_s < 1

        keys.is_silent = False
        await ring.ready()

    asyncio.run(run())


def test_where_keys_stays_away_a_limited_key_waits_and_is_then_told_to_come_back() -> None:
    async def run() -> None:
        keys = Counting()
        ring = Keyring(Handle(keys))
        await ring.ready()
        keys.is_silent = True

        with pytest.raises(Overloaded):
            await ring.enter(TOM, 5)

        keys.is_silent = False
        await asyncio.sleep(0.2)
        assert [left.key for left in keys.left] == [TOM.id]  # it may have been let in

    asyncio.run(run())
