"""A service for many tests that is started anew where it has died."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, suppress

import httpx

PUT = Callable[[], object]


def silence_of(url: str, *, limit_s: float) -> str | None:
    """Why nothing healthy answers at `url` for so long, None as soon as something does.

    A test before may have killed a replica, which Serve is replacing.
    """
    until_s = time.monotonic() + limit_s
    while True:
        try:
            answer = httpx.get(f"{url}/healthz", timeout=10, trust_env=False)
            reason = f"/healthz answers {answer.status_code}"
        except httpx.HTTPError as error:
            reason = repr(error)
        else:
            if answer.is_success:
                return None
        if time.monotonic() > until_s:
            return reason
        time.sleep(0.2)


class Living:
    """The service that `start` starts, and the applications that tests put beside it."""

    def __init__(
        self, start: Callable[[], AbstractContextManager[str]], *, patience_s: float = 30.0
    ) -> None:
        self._start, self._patience_s = start, patience_s
        self._running = ExitStack()
        self._beside: dict[str, PUT] = {}
        self.url = self._running.enter_context(start())

    def put(self, name: str, how: PUT) -> None:
        """Puts an application beside the service now, and again whenever it is started anew."""
        how()
        self._beside[name] = how

    def take_away(self, name: str, how: PUT) -> None:
        """Takes the application away. One of a dead service is only forgotten."""
        del self._beside[name]
        with suppress(Exception):
            how()

    def revive(self) -> str | None:
        """None if the service lives. Otherwise starts it anew, and says why."""
        reason = silence_of(self.url, limit_s=self._patience_s)
        if reason is None:
            return None
        self.stop()
        self.url = self._running.enter_context(self._start())
        for how in self._beside.values():
            how()
        return f"The service at {self.url} had died and was started anew: {reason}"

    def stop(self) -> None:
        """Stops what is left. What is dead may fail to stop."""
        with suppress(Exception):
            self._running.close()
