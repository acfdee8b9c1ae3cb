"""The service of these tests: what happens when it dies between two tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext

import httpx
import pytest

from tests.clients.servers import answering
from tests.e2e.living import Living

HEALTHY = (200, {}, '{"status": "alive"}')


class Mortal:
    """Starts small servers, and kills the last one."""

    def __init__(self, *, fails_to_stop: bool = False) -> None:
        self.urls: list[str] = []
        self._fails_to_stop = fails_to_stop
        self._server = ExitStack()

    @contextmanager
    def start(self) -> Iterator[str]:
        self.urls.append(self._server.enter_context(answering(HEALTHY)).url)
        yield self.urls[-1]
        self._server.close()
        if self._fails_to_stop:
            raise RuntimeError("Ray is gone")

    def die(self) -> None:
        self._server.close()


def test_a_service_that_lives_is_left_alone() -> None:
    mortal = Mortal()
    service = Living(mortal.start)

    reason = service.revive()
    service.stop()

    assert reason is None
    assert len(mortal.urls) == 1


@pytest.mark.parametrize("fails_to_stop", [False, True])
def test_a_service_that_died_says_so_and_is_started_anew(fails_to_stop: bool) -> None:
    mortal = Mortal(fails_to_stop=fails_to_stop)
    service = Living(mortal.start, patience_s=0.1)
    mortal.die()

    reason = service.revive()
    answer = httpx.get(f"{service.url}/healthz", trust_env=False)
    service.stop()

    assert reason is not None
    assert "had died and was started anew: ConnectError" in reason
    assert (answer.status_code, service.url) == (200, mortal.urls[1])


def test_what_stood_beside_it_is_put_there_again() -> None:
    mortal, put = Mortal(), []
    service = Living(mortal.start, patience_s=0.1)
    service.put("strict", lambda: put.append("strict"))
    service.put("gone", lambda: put.append("gone"))
    service.take_away("gone", lambda: put.remove("gone"))
    mortal.die()

    service.revive()
    service.stop()

    assert put == ["strict", "strict"]


def test_an_application_of_a_dead_service_is_only_forgotten() -> None:
    def fail() -> None:
        raise RuntimeError("no controller")

    put: list[str] = []
    mortal = Mortal()
    service = Living(mortal.start, patience_s=0.1)
    service.put("strict", lambda: put.append("strict"))

    service.take_away("strict", fail)
    mortal.die()
    service.revive()
    service.stop()

    assert put == ["strict"]  # it is not put there again


def test_a_service_that_is_being_mended_is_waited_for() -> None:
    answers = ((503, {}, ""), (500, {}, ""), HEALTHY)

    with answering(*answers) as server:
        service = Living(lambda: nullcontext(server.url))
        reason = service.revive()

    assert reason is None
    assert len(server.asked) == 3
