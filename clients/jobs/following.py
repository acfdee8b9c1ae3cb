"""How a client follows a job through every death of the service: how long, and from where."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from clients.attempts import MAX_RETRY_WAIT_S, Unreached
from clients.jobs.model import Job, JobEvent, JobSegment, event_from
from deployments.core.errors import (
    AsrError,
    LimitExceeded,
    ModelUnavailable,
    Overloaded,
    TimedOut,
)
from deployments.core.wire import from_sse_line

FIRST_PAUSE_S, PAUSE_FACTOR, MAX_PAUSE_S = 0.2, 1.5, 3.0
MAX_ANSWER_S = 60.0  # a service that sends nothing for so long, not even a ping, is asked again

# A job outlives these: the service is away, busy or starting.
PASSING = (LimitExceeded, ModelUnavailable, Overloaded, TimedOut, Unreached)


class Patience:
    """When to ask again about a job, and when to give up.

    With a `timeout_s` the client gives up after so many seconds, whatever happens. Without one it
    gives up once the service has been silent for `silence_s`.
    """

    def __init__(
        self,
        timeout_s: float | None,
        silence_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock, self._timeout_s, self._silence_s = clock, timeout_s, silence_s
        self._began_s = self._heard_s = clock()
        self._pause_s = FIRST_PAUSE_S

    def heard(self) -> None:
        """The service has sent something. Raises TimedOut at the timeout."""
        self._heard_s, self._pause_s = self._clock(), FIRST_PAUSE_S
        if self._left_s() <= 0:
            raise self._late(None)

    def answer_s(self) -> float:
        """How long one answer may take."""
        return max(0.1, min(MAX_ANSWER_S, self._silence_s, self._left_s()))

    def pause_s(self, error: AsrError | None = None) -> float:
        """Seconds until the next question. `error` says why the last one has no answer.

        Raises TimedOut at the timeout, and the error itself if the service was silent too long.
        """
        if error is None or isinstance(error, LimitExceeded):  # a full queue is an answer
            self._heard_s = self._clock()
        left_s = self._left_s()
        if left_s <= 0:
            if error is not None and self._timeout_s is None:
                raise error
            raise self._late(error)
        asked_s = getattr(error, "retry_after_s", None) or 0.0
        pause_s = max(self._pause_s, min(asked_s, MAX_RETRY_WAIT_S))
        self._pause_s = min(self._pause_s * PAUSE_FACTOR, MAX_PAUSE_S)
        return min(pause_s, left_s)

    def _left_s(self) -> float:
        if self._timeout_s is not None:
            return self._began_s + self._timeout_s - self._clock()
        return self._heard_s + self._silence_s - self._clock()

    def _late(self, error: AsrError | None) -> TimedOut:
        late = TimedOut("job", self._timeout_s or self._silence_s)
        late.note = "" if error is None or error.args == late.args else str(error)
        return late


class Follower:
    """The events of one file of a job, each once, over as many streams as it takes."""

    def __init__(self, after: int) -> None:
        self.after = after  # final segments that the client has
        self.has_ended = False
        self._id: int | None = None  # of the event that is being read
        self._shown: Job | None = None

    def of_line(self, line: str) -> JobEvent | None:
        """The event in one line of a stream; None if it has none. Raises AsrError."""
        name, _, value = line.partition(":")
        value = value.strip()
        if name == "id" and value.isdecimal():
            self._id = int(value)
        if name == "data" and value == "[DONE]":
            self.has_ended = True
        try:
            body = from_sse_line(line)
            return None if body is None else self.of_body(body, self._id)
        except (KeyError, TypeError, ValueError) as error:
            raise AsrError(f"The server's stream cannot be read: {error!r}") from error

    def of_body(self, body: Mapping[str, Any], number: int | None = None) -> JobEvent | None:
        """The event, unless the client has it. `number` is its id. Raises KeyError and so on."""
        event = event_from(body)
        if isinstance(event, JobSegment):
            self.after = self.after + 1 if number is None else number
        if isinstance(event, Job):
            if event == self._shown:
                return None
            self._shown = event
        return event
