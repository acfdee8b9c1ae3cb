"""The client over a Ray handle: which errors it raises, and that it cancels work."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from ray.exceptions import ActorDiedError, RayTaskError
from ray.serve.exceptions import BackPressureError

from clients.ray_handle import Transcriber
from deployments.core.errors import AsrError, EngineFailed, Overloaded, TimedOut
from tests.clients.fakes import FakeHandle, FakeResponse, FakeRouter

WITHOUT_RAY = """
import sys
sys.modules["ray"] = None
from clients.http import Client
from clients.cli import app
from clients.ray_handle import Transcriber
try:
    Transcriber()
except Exception as error:
    print(error)
"""


class HandleThat:
    """A handle whose methods all answer with the result of `answer`."""

    def __init__(self, answer: Callable[[], Any]) -> None:
        self._answer = answer
        self.responses: list[FakeResponse] = []

    def __getattr__(self, method: str) -> HandleThat:
        return self

    def remote(self, *arguments: object) -> FakeResponse:
        self.responses.append(FakeResponse(self._answer))
        return self.responses[-1]


def raising(error: Exception) -> HandleThat:
    def answer() -> None:
        raise error

    return HandleThat(answer)


def plain_task_error() -> Exception:
    wrapped = RayTaskError("f", "pid=1, ip=10.0.0.1", KeyError("x"))  # type: ignore[no-untyped-call]
    raised: Exception = wrapped.as_instanceof_cause()  # type: ignore[no-untyped-call]
    return raised


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (BackPressureError(num_queued_requests=9, max_queued_requests=9), Overloaded),
        (ActorDiedError(), Overloaded),
        (plain_task_error(), EngineFailed),
        (TimeoutError(), TimedOut),
    ],
    ids=["queue full", "replica died", "bug in the service", "no answer"],
)
def test_an_error_of_ray_raises_one_of_our_errors(error: Exception, kind: type[AsrError]) -> None:
    with pytest.raises(kind) as caught:
        Transcriber(handle=raising(error)).transcribe(b"recording")

    assert type(caught.value) is kind
    assert "10.0.0.1" not in str(caught.value)


def test_an_error_outside_ray_is_not_changed() -> None:
    with pytest.raises(ZeroDivisionError):
        Transcriber(handle=raising(ZeroDivisionError())).transcribe(b"recording")


def test_a_request_without_an_answer_in_time_is_cancelled() -> None:
    handle = raising(TimeoutError())

    with pytest.raises(TimedOut) as caught:
        Transcriber(handle=handle, timeout_s=7.0).transcribe(b"recording")

    assert caught.value.limit_s == 7.0
    assert [response.was_cancelled for response in handle.responses] == [True]


def test_leaving_a_stream_early_cancels_the_request() -> None:
    handle = FakeHandle(FakeRouter())
    events = Transcriber(handle=handle).stream(b"recording")

    next(events)
    events.close()  # type: ignore[attr-defined]

    assert [response.was_cancelled for response in handle.stream.responses] == [True]


def test_without_ray_the_other_clients_import_and_this_one_says_what_is_missing() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_RAY], capture_output=True, text=True, check=True
    )

    assert "Ray is not installed here: use clients.http" in done.stdout
