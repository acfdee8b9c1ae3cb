"""`Transcriber`: a client for Python programs on the Ray cluster, over the Router's handle.

It has the methods, types and errors of `clients.http.Client`, without HTTP in between.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias, Unpack

from clients.jobs.ray_handle import HandleJobs
from clients.request import Asked, Source, options_from, read_upload
from deployments.core.errors import AsrError, EngineFailed, JobsOff, Overloaded, TimedOut
from deployments.core.types import StreamEvent, Transcript

Json: TypeAlias = dict[str, Any]

DEFAULT_TIMEOUT_S = 600.0
BUSY_RETRY_S = 5.0  # when to try again if a queue is full or a replica has just died
ROUTER = "Router"
JOBS = "Jobs"


def _handle(deployment: str, app_name: str, address: str | None) -> Any:
    """The application's deployment. Joins a running Ray, and never starts one.

    Raises JobsOff if the application has no deployment of jobs.
    """
    try:
        import ray
        from ray import serve

        from deployments.handles import waiting_handle
        from deployments.loopback import joining
    except ImportError as error:
        raise AsrError(
            "Ray is not installed here: use clients.http, or install [server]."
        ) from error
    if not ray.is_initialized():
        try:
            with joining(address):
                ray.init(address=address or "auto", log_to_driver=False)
        except (ConnectionError, RuntimeError) as error:
            raise AsrError(f"No Ray answers at {address or 'this machine'}: {error}") from error
    running = serve.status().applications
    if app_name not in running:
        raise AsrError(f"No application {app_name!r} runs there; running: {', '.join(running)}.")
    if deployment == JOBS and JOBS not in running[app_name].deployments:
        raise JobsOff("This service takes no jobs: the setting is jobs.enabled.")
    return waiting_handle(deployment, app_name)


def _as_ours(error: Exception) -> Exception:
    """The service's error that Ray has wrapped. The text of Ray's error is a remote traceback."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, AsrError):
        return cause
    if isinstance(error, AsrError):
        return error
    from ray.exceptions import RayActorError, RayError
    from ray.serve.exceptions import BackPressureError, RayServeException

    if isinstance(error, BackPressureError | RayActorError):
        return Overloaded(BUSY_RETRY_S)
    if isinstance(error, RayError | RayServeException):
        return EngineFailed("The service failed on this request. Its log has the details.")
    return error


@contextmanager
def _plain_errors() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise _as_ours(error) from None


class Transcriber:
    """A client of the running application `app_name`, or of its `handle` and `jobs_handle`.

    `address` is that of the Ray cluster; None means the cluster of this machine. Use it outside
    event loops, because its methods block.
    """

    def __init__(
        self,
        app_name: str = "default",
        handle: Any = None,
        address: str | None = None,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        jobs_handle: Any = None,
    ) -> None:
        self._handle = _handle(ROUTER, app_name, address) if handle is None else handle
        self._jobs_handle, self._at = jobs_handle, (app_name, address)
        self._timeout_s = timeout_s

    @property
    def jobs(self) -> HandleJobs:
        """The transcription jobs of the service. Raises JobsOff where it takes none."""
        if self._jobs_handle is None:
            self._jobs_handle = _handle(JOBS, *self._at)
        return HandleJobs(self._jobs_handle, self._result, _plain_errors, self._timeout_s)

    def transcribe(self, source: Source, **asked: Unpack[Asked]) -> Transcript:
        """The finished transcript. Raises `core/errors.py`'s errors, and OSError for a file."""
        upload, options = read_upload(source), options_from(**asked)
        transcript: Transcript = self._result(self._handle.transcribe.remote(upload, options))
        return transcript

    def stream(self, source: Source, **asked: Unpack[Asked]) -> Iterator[StreamEvent]:
        """Deltas and progress as they come, then `Done`. Closing it stops the Router's work."""
        upload, options = read_upload(source), options_from(**asked)
        with _plain_errors():
            events = self._handle.options(stream=True).stream.remote(upload, options)
            try:
                yield from events
            finally:
                events.cancel()

    def models(self) -> list[Json]:
        """The models that are served, as `/v1/models` lists them."""
        models: list[Json] = self._result(self._handle.models.remote())
        return models

    def ready(self) -> Json:
        """Whether a request would be served now (`ready`), and the state of each pool."""
        ready: Json = self._result(self._handle.ready.remote())
        return ready

    def _result(self, response: Any) -> Any:
        with _plain_errors():
            try:
                return response.result(timeout_s=self._timeout_s)
            except TimeoutError:
                response.cancel()
                raise TimedOut("answer", self._timeout_s) from None
