"""Every error a caller can meet, as one small hierarchy.

    AsrError
    +-- BadRequest             a field, a value, an option             400
    |   +-- UnknownModel                                               404
    |   +-- UrlRefused         a URL that is not fetched               400
    |   +-- JobsOff            the service takes no jobs              404
    |   +-- UnknownJob         no such job, or another key's           404
    |   +-- Conflict           the job is not in the state for this    409
    +-- InvalidAudio           empty, broken, no sound track           400
    +-- UnsupportedContainer   not a format we read                    415
    +-- UploadTooLarge, AudioTooLong                                   413
    +-- Overloaded             come back after retry_after_s           503
    |   +-- Draining           the service is being stopped
    |   +-- StorageFailed      the disk, the objects or the database
    +-- TimedOut               a stage met its timeout                 504
    +-- FetchFailed            another server did not send its file    424
    +-- Unauthorized           no key, or none that is valid           401
    +-- Forbidden              the key is not for this                 403
    +-- LimitExceeded          a limit of the key is reached           429
    +-- EngineFailed           the model failed on this input          500
    |   +-- OutOfMemory        a batch did not fit the device
    +-- ModelUnavailable       weights missing or wrong; at start-up

Errors cross processes, so they must pickle: their arguments are positional, and all are handed to
`super().__init__`. `STATUS` in core/wire.py maps each class to its HTTP status. `str(error)` is a
sentence that a client may read.
"""

from __future__ import annotations


class AsrError(Exception):
    """Any error of this service. A client may add a `note`, such as how often it asked."""

    note = ""

    @property
    def message(self) -> str:
        return str(self.args[0])

    def __str__(self) -> str:
        return f"{self.message} ({self.note})" if self.note else self.message


class BadRequest(AsrError):
    """A field of the request is unknown, or its value cannot be used. `param` names the field."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message, param)
        self.param = param


class UnknownModel(BadRequest):
    """The request names a model that is not served here."""

    def __init__(self, name: str, served: tuple[str, ...] = ()) -> None:
        super().__init__(name, "model")
        self.args = (name, served)
        self.name, self.served = name, served

    @property
    def message(self) -> str:
        return f"The model {self.name!r} is not served here. Served: {', '.join(self.served)}."


class UrlRefused(BadRequest):
    """A URL of the request is malformed, or names a place where the service does not go."""

    def __init__(self, message: str, param: str | None = "url") -> None:
        super().__init__(message, param)


class UnknownJob(BadRequest):
    """There is no such job for this caller."""

    def __init__(self, job: str) -> None:
        super().__init__(job, None)
        self.args = (job,)

    @property
    def message(self) -> str:
        return f"There is no job {self.args[0]!r} here."


class JobsOff(BadRequest):
    """The service takes no jobs. The message names the setting that turns them on."""


class Conflict(BadRequest):
    """The request contradicts an earlier one, or comes too early."""


class InvalidAudio(AsrError):
    """The bytes are not audio we can read: empty, truncated, no sound track."""

    def __init__(self, message: str) -> None:
        super().__init__(message)


class UnsupportedContainer(AsrError):
    """The file is of a kind that is not read here."""

    def __init__(self, message: str) -> None:
        super().__init__(message)


class UploadTooLarge(AsrError):
    """The upload has more bytes than the configured limit."""

    def __init__(self, limit_mb: float) -> None:
        super().__init__(limit_mb)
        self.limit_mb = limit_mb

    @property
    def message(self) -> str:
        return f"The upload is larger than the limit of {self.limit_mb:g} MB."


class AudioTooLong(AsrError):
    """The recording lasts longer than the configured limit."""

    def __init__(self, duration_s: float, limit_s: float) -> None:
        super().__init__(duration_s, limit_s)
        self.duration_s, self.limit_s = duration_s, limit_s

    @property
    def message(self) -> str:
        return (
            f"The recording lasts at least {self.duration_s:.0f} s; "
            f"the limit is {self.limit_s:.0f} s."
        )


class Overloaded(AsrError):
    """The work cannot be done in time. The client may try again after `retry_after_s`."""

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(retry_after_s)
        self.retry_after_s = retry_after_s

    @property
    def message(self) -> str:
        return f"The service is busy. Try again in {self.retry_after_s:.0f} s."


class Draining(Overloaded):
    """The service finishes what it has and takes nothing new. Another one may take its place."""

    @property
    def message(self) -> str:
        return f"The service is being stopped. Try again in {self.retry_after_s:.0f} s."


class StorageFailed(Overloaded):
    """The storage of jobs cannot be reached or is full. What was accepted before is not lost."""

    @property
    def message(self) -> str:
        return f"The storage of jobs cannot be used now. Try again in {self.retry_after_s:.0f} s."


class TimedOut(AsrError):
    """A stage took longer than its timeout."""

    def __init__(self, stage: str, limit_s: float) -> None:
        super().__init__(stage, limit_s)
        self.stage, self.limit_s = stage, limit_s

    @property
    def message(self) -> str:
        return f"The {self.stage} took longer than its limit of {self.limit_s:g} s."


class FetchFailed(AsrError):
    """The server that a URL names did not send the recording."""

    def __init__(self, message: str) -> None:
        super().__init__(message)


class Unauthorized(AsrError):
    """The request has no API key, or one that is not valid here."""

    def __init__(self, message: str) -> None:
        super().__init__(message)


class Forbidden(AsrError):
    """The API key is valid, but not for what the request asks."""

    def __init__(self, message: str) -> None:
        super().__init__(message)


class LimitExceeded(AsrError):
    """A limit of the API key is reached. It allows the next request after `retry_after_s`."""

    def __init__(self, limit: str, retry_after_s: float) -> None:
        super().__init__(limit, retry_after_s)
        self.limit, self.retry_after_s = limit, retry_after_s

    @property
    def message(self) -> str:
        return f"This key is limited to {self.limit}. Try again in {self.retry_after_s:.0f} s."


class EngineFailed(AsrError):
    """A model failed while it ran."""

    def __init__(self, message: str) -> None:
        super().__init__(message)


class OutOfMemory(EngineFailed):
    """A batch did not fit into the memory of the device. A smaller one may fit."""


class ModelUnavailable(AsrError):
    """The weights of a model are missing or wrong. The message names the remedy."""

    def __init__(self, name: str, remedy: str) -> None:
        super().__init__(name, remedy)
        self.name, self.remedy = name, remedy

    @property
    def message(self) -> str:
        return f"The model {self.name!r} is not available: {self.remedy}"
