"""An ingress's copy of the keys, and its requests that are under way, both kept up with `Keys`.

The copy is used while `Keys` is silent, for a minute at most. Without a copy nobody comes in.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from math import inf
from typing import Any
from uuid import uuid4

from deployments.api.doors import sessions
from deployments.api.doors.rules import Shown
from deployments.core.errors import AsrError, LimitExceeded, Overloaded, TimedOut, Unauthorized
from deployments.keys.messages import Left, Open, Told
from deployments.keys.records import Key
from deployments.keys.secrets import known
from deployments.request.calls import ReplicaDied, call

logger = logging.getLogger("ray.serve")

TELL_S = 2.0
GATHER_S = 0.2  # in which charges of other requests come together
TIMEOUT_S = 5.0
VALID_S = 60.0  # for how long the copy is used without a word of `Keys`
READY_TIMEOUT_S = 5.0
LEAVE_TIMEOUT_S = 1.0
REPLACED_S = 20.0  # within which Serve replaces a replica of `Keys`
PAUSE_S = 0.5
RETRY_S = 5.0
WRONG = "The API key is not valid here."
MISSING = "An API key is needed, as the header `Authorization: Bearer sk-pc-...`."


class Keyring:
    """`keys` is the handle of the `Keys` deployment, or anything that answers like it."""

    def __init__(self, keys: Any, *, now_s: Callable[[], float] = time.time) -> None:
        self._handle, self._now_s = keys, now_s
        self._ingress = uuid4().hex
        self._keys: Mapping[str, Key] = {}
        self._secret, self._seen = "", 0
        self._heard_s = -inf  # of the monotonic clock
        self._open: dict[str, tuple[str, int, float]] = {}  # permit -> key, bytes, since when
        self._unsaid: list[Left] = []  # ends that `Keys` has not heard of
        self._telling: asyncio.Task[None] | None = None
        self._is_told, self._is_charged = asyncio.Event(), asyncio.Event()

    async def ready(self) -> None:
        """Returns where the keys are known. Raises Overloaded where they are not."""
        if self._telling is None or self._telling.done():
            self._telling = asyncio.create_task(self._tell())
        if time.monotonic() - self._heard_s < VALID_S:
            return
        self._is_told.clear()
        try:
            await asyncio.wait_for(self._is_told.wait(), READY_TIMEOUT_S)
        except TimeoutError:
            raise Overloaded(RETRY_S) from None

    def key_of(self, shown: Shown) -> Key:
        """Raises Unauthorized."""
        now_s = self._now_s()
        if shown.key:
            key = known(shown.key, self._keys, now_s)
        elif shown.session:
            key = sessions.known(shown.session, self._keys, self._secret, now_s)
        else:
            raise Unauthorized(MISSING)
        if key is None:
            raise Unauthorized(WRONG)
        return key

    def new_session(self, key: Key, lasts_s: float) -> str:
        """The value of a cookie for the key."""
        return sessions.make(key, self._now_s() + lasts_s, self._secret)

    async def enter(self, key: Key, n_bytes: int) -> str:
        """The permit of a request that begins. Raises LimitExceeded and Overloaded."""
        permit = uuid4().hex
        try:
            arguments = (self._ingress, permit, key.id, n_bytes)
            await self._again(self._handle.enter.remote, *arguments)
        except (LimitExceeded, Unauthorized):
            raise
        except BaseException:
            self._unsaid.append(Left(permit, key.id))  # it may have been let in
            raise
        self._open[permit] = (key.id, n_bytes, time.monotonic())
        return permit

    async def leave(self, left: Left) -> None:
        """Tells the end of a request at once where it had a permit, else soon."""
        had_permit = self._open.pop(left.permit, None) is not None
        if not had_permit:
            if left.audio_ms:
                self._unsaid.append(left)
                self._is_charged.set()
            return
        try:
            remote = self._handle.leave.remote
            await call(remote, left, stage="keys", timeout_s=LEAVE_TIMEOUT_S)
        except AsrError:
            self._unsaid.append(left)  # charged once, however often it is told
        except BaseException:
            self._unsaid.append(left)
            raise

    async def usage(self, key: str | None, since: str, until: str) -> Any:
        return await self._again(self._handle.usage.remote, key, since, until)

    async def _again(self, remote: Callable[..., Any], *arguments: object) -> Any:
        """The result of the call, which is tried again while a dead replica is being replaced."""
        deadline_s = time.monotonic() + REPLACED_S
        while time.monotonic() < deadline_s:
            with suppress(ReplicaDied, TimedOut):
                return await call(remote, *arguments, stage="keys", timeout_s=TIMEOUT_S)
            await asyncio.sleep(PAUSE_S)
        raise Overloaded(RETRY_S)

    async def _tell(self) -> None:
        """Tells what is open and hears which keys there are, every two seconds and for charges."""
        task = asyncio.current_task()
        assert task is not None
        while not task.cancelling():  # `wait_for` of Python 3.11 may lose a cancellation
            try:
                await self._tell_once()
            except Exception as error:  # whatever it is: requests under way must be told of
                logger.warning("The keys could not be asked for: %s", type(error).__name__)
                await asyncio.sleep(PAUSE_S)
            else:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._is_charged.wait(), TELL_S)
                    await asyncio.sleep(GATHER_S)

    async def _tell_once(self) -> None:
        now_s = time.monotonic()
        held = {p: Open(k, n, now_s - since_s) for p, (k, n, since_s) in self._open.items()}
        unsaid, self._unsaid = self._unsaid, []
        self._is_charged.clear()
        try:
            arguments = (self._ingress, held, unsaid, self._seen)
            remote = self._handle.tell.remote
            told: Told = await call(remote, *arguments, stage="keys", timeout_s=TIMEOUT_S)
        except BaseException:
            self._unsaid = unsaid + self._unsaid
            raise
        if told.keys is not None:
            self._keys, self._secret = told.keys, told.session_secret
        self._seen, self._heard_s = told.revision, now_s
        self._is_told.set()
