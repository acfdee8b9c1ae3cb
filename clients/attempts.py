"""Which failed requests are sent again, and what the error says when the client gives up.

A transcription changes nothing in the service. So a request may be sent again wherever the service
has surely stopped working for the last one, but not where it may be at work still.
"""

from __future__ import annotations

from uuid import uuid4

from deployments.core.errors import (
    AsrError,
    LimitExceeded,
    ModelUnavailable,
    Overloaded,
    TimedOut,
)

MAX_RETRY_WAIT_S = 60.0  # if Retry-After is longer, the error is raised at once


class Unreached(AsrError):
    """No answer of the service: nothing listens, the connection broke, or a proxy answered."""

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message, retry_after_s)
        self.retry_after_s = retry_after_s


class Attempts:
    """The attempts of one call, which have one id. stamina asks after each failure.

    A call that `has_one_effect`, however often it arrives, is also sent again after a timeout.
    """

    def __init__(self, limit: int, *, has_one_effect: bool = False) -> None:
        self.request_id = uuid4().hex
        self._limit, self._n_failed = limit, 0
        self._has_one_effect = has_one_effect

    def __call__(self, error: Exception) -> bool | float:
        """Whether to try again. True: after stamina's backoff. A number: after so many seconds.

        The error of the last attempt says how many there were.
        """
        self._n_failed += 1
        again = _is_safe_again(error)
        if self._has_one_effect and isinstance(error, TimedOut):
            again = True
        if isinstance(error, AsrError) and again is not False and self._n_failed == self._limit > 1:
            gave_up = f"gave up after {self._n_failed} attempts with request id {self.request_id}"
            error.note = "; ".join(filter(None, (error.note, gave_up)))
        return again


def _is_safe_again(error: Exception) -> bool | float:
    match error:
        case ModelUnavailable() | Unreached(retry_after_s=None):
            return True
        case Overloaded() | LimitExceeded() | Unreached() if (
            error.retry_after_s or 0.0
        ) <= MAX_RETRY_WAIT_S:
            return float(error.retry_after_s or 0.0)
    return False
