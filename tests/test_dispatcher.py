"""The real dispatcher without Ray: what it tells the autoscaling policy, and whoever watches."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pytest

from cluster.autoscaling import ACCEPTED, BACKLOG, DRAIN, GIVE_BACK, PRICE, SPEED, START
from cluster.watch.tables import Picture
from deployments import dispatcher as module
from deployments.api.ingress import Front, create_app
from deployments.api.openapi import document
from deployments.config import AutoscalingSettings, DispatcherSettings, Limits
from deployments.core.errors import OutOfMemory
from deployments.core.scheduler.events import Cancel, Event, Finished, GiveUp, Lost, Order, Tick
from deployments.core.scheduler.planning import PoolSpec
from deployments.core.types import (
    Audio,
    Done,
    Hints,
    Recognition,
    Span,
    TranscribeOptions,
    Transcript,
)
from deployments.dispatcher import Dispatcher, _Mailbox
from deployments.replicas import running_replicas
from deployments.request.router import Router
from tests.cluster.watch.test_command import line, shown
from tests.request.harness import TEXT_ONLY, InProcessCalls, Misfortune, echo, events_of

SPEC = PoolSpec("T4", 60_000, 100.0, 50, 8, 30_000, can_start=True, price_per_hour=0.25)
AIMS = AutoscalingSettings(drain_s=60, give_back_after_s=300)


def new_dispatcher() -> Dispatcher:
    return Dispatcher([SPEC], DispatcherSettings(), {"T4": "Asr-T4"}, AIMS)


def test_the_report_has_every_figure_under_the_name_that_the_policy_reads() -> None:
    report = asyncio.run(new_dispatcher().record_autoscaling_stats())

    assert report == {
        BACKLOG: 0.0,
        ACCEPTED: 0.0,
        DRAIN: 60.0,
        GIVE_BACK: 300.0,
        f"{SPEED}Asr-T4": pytest.approx(60_000 / (50 + 60_000 / 100)),  # overhead included
        f"{PRICE}Asr-T4": 0.25,
        f"{START}Asr-T4": 30.0,
    }


class ThroughDispatcher(InProcessCalls):
    """Replicas played as in the harness, orders from the real dispatcher."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.dispatcher = new_dispatcher()

    async def submit(
        self, request: str, lengths_ms: Mapping[int, int], **more: Any
    ) -> tuple[bool, list[Order | GiveUp]]:
        return await self.dispatcher.submit(request, dict(lengths_ms), **more)

    async def orders(self, request: str) -> list[Order | GiveUp] | None:
        return await self.dispatcher.orders(request)

    async def finished(self, report: Finished) -> None:
        await self.dispatcher.finished(report)

    async def lost(self, report: Lost) -> bool:
        return await self.dispatcher.lost(report)

    async def cancel(self, request: str, reports: Sequence[Finished]) -> None:
        await self.dispatcher.cancel(request, reports)


class LocalHandle:
    """A deployment in this process, called as over a handle."""

    def __init__(self, instance: object) -> None:
        self._instance = instance

    def options(self, *, _by_reference: bool) -> LocalHandle:
        return self

    def __getattr__(self, name: str) -> SimpleNamespace:
        method: Callable[..., Any] = getattr(self._instance, name)
        return SimpleNamespace(remote=lambda *args: asyncio.ensure_future(method(*args)))


async def readyz(dispatcher: Dispatcher) -> dict[str, Any]:
    """The body as HTTP carries it, through the real router and front."""
    calls = {"vad": None, "pools": {}, "punctuation": None, "dispatcher": LocalHandle(dispatcher)}
    router = Router(TEXT_ONLY, calls | {"stage_timeout_s": {}})
    front = Front(LocalHandle(router), TEXT_ONLY.engine, Limits())
    transport = httpx.ASGITransport(create_app(front))
    async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
        body: dict[str, Any] = (await client.get("/readyz")).json()
    return body


def tight(batch: Sequence[Audio], hints: Hints) -> list[Recognition]:
    """An engine on a device that holds five seconds of padded audio."""
    if len(batch) * max(map(len, batch)) > 5 * 16_000:
        raise OutOfMemory("5 s")
    return echo(batch, hints)


def test_padding_ooms_and_backlog_of_a_pool_are_told_by_readyz_and_shown_by_top() -> None:
    async def before_during_after() -> list[dict[str, Any]]:
        spans = [Span(0, 4_000), Span(4_000, 7_000)]
        calls = ThroughDispatcher(lambda _: spans, tight, lambda _: [], {"T4": (1, SPEC)})
        dispatcher = calls.dispatcher
        bodies = [await readyz(dispatcher)]
        await dispatcher.submit("another", {0: 2_000, 1: 1_000}, False, 0)
        bodies.append(await readyz(dispatcher))
        await dispatcher.cancel("another")
        audio = np.ones(7 * 16_000, np.int16)
        await events_of(calls, audio, TranscribeOptions(), TEXT_ONLY)
        return [*bodies, await readyz(dispatcher)]

    told = [body["pools"]["T4"] for body in asyncio.run(before_during_after())]

    assert [pool["padding"] for pool in told] == [None, None, pytest.approx(1 - 7 / 8)]
    assert [pool["ooms"] for pool in told] == [0, 0, 1]
    assert [pool["backlog_audio_s"] for pool in told] == [0.0, 3.0, 0.0]
    assert [pool["outstanding_audio_s"] for pool in told] == [0.0, 4.0, 0.0]
    text = shown(Picture(service={"ready": True, "pools": {"T4": told[2]}}))
    titles, values = line(text, "POOL"), line(text, "T4")
    assert {"replicas", "backlog", "speed", "padding", "OOMs"} <= {*titles}
    assert values[-2:] == ["12%", "1"]


def test_a_chunk_that_is_lost_is_placed_again() -> None:
    told: list[tuple[Lost, bool]] = []

    class Told(ThroughDispatcher):
        async def lost(self, report: Lost) -> bool:
            told.append((report, await super().lost(report)))
            return told[-1][1]

    async def once_lost() -> Transcript:
        spans = [Span(0, 1_000)]
        kills = Misfortune(dies=1.0)
        calls = Told(lambda _: spans, echo, lambda _: [], {"T4": (1, SPEC)}, misfortune=kills)
        events = await events_of(calls, np.ones(16_000, np.int16), TranscribeOptions(), TEXT_ONLY)
        assert isinstance(events[-1], Done)
        return events[-1].transcript

    transcript = asyncio.run(once_lost())

    assert [known for _, known in told] == [True]
    assert [(s.text, s.attempts) for s in transcript.segments] == [("16000", 2)]


def test_what_waits_for_a_pool_is_told_apart_from_what_it_has() -> None:
    async def much_waits() -> dict[str, Any]:
        dispatcher = new_dispatcher()
        await dispatcher.submit("long", dict.fromkeys(range(100), 10_000), False, 0)
        return await readyz(dispatcher)

    body = asyncio.run(much_waits())

    on_its_way_s = body["pools"]["T4"]["backlog_audio_s"]
    assert 0 < on_its_way_s < 1000
    assert body["waiting_audio_s"] == 1000 - on_its_way_s
    words = f"{body['waiting_audio_s']:.0f} s of audio waiting for a pool"
    assert words in shown(Picture(service=body))


def test_every_figure_of_readyz_is_described() -> None:
    body = asyncio.run(readyz(new_dispatcher()))

    ready = document(Limits())["paths"]["/readyz"]["get"]["responses"]["200"]
    described = ready["content"]["application/json"]["schema"]["properties"]
    assert body.keys() | {"reason"} == described.keys()
    of_pool = described["pools"]["additionalProperties"]["properties"]
    assert body["pools"]["T4"].keys() == of_pool.keys()


LISTED = [("a", "RUNNING"), ("b", "STARTING"), ("c", "RUNNING"), (None, "RUNNING")]  # by Serve


def test_running_replicas_have_the_names_of_their_actors(monkeypatch: pytest.MonkeyPatch) -> None:
    replicas = [{"actor_id": name, "state": state} for name, state in LISTED]
    told = {"applications": {"app": {"deployments": {"Asr-T4": {"replicas": replicas}}}}}
    client = SimpleNamespace(get_serve_details=lambda: told)
    monkeypatch.setattr("deployments.replicas._get_global_client", lambda: client)

    assert running_replicas("app", {"T4": "Asr-T4", "L4": "Asr-L4"}) == {"T4": ("a", "c")}
    assert running_replicas("gone", {"T4": "Asr-T4"}) == {}


def test_it_does_not_start_where_serve_tells_no_names(monkeypatch: pytest.MonkeyPatch) -> None:
    without_names = SimpleNamespace(model_fields={"replica_id": None, "state": None})
    monkeypatch.setattr("deployments.replicas.ReplicaDetails", without_names)

    with pytest.raises(RuntimeError, match=r"does not tell the names .* Install the Ray"):
        new_dispatcher()


def test_orders_name_the_replicas_that_serve_names(monkeypatch: pytest.MonkeyPatch) -> None:
    app = SimpleNamespace(app_name="app")
    monkeypatch.setattr(module.serve, "get_replica_context", lambda: app)
    monkeypatch.setattr(module, "running_replicas", lambda *_: {"T4": ("a", "c")})

    async def ordered() -> tuple[list[Order | GiveUp], dict[str, Any]]:
        dispatcher = new_dispatcher()
        _, orders = await dispatcher.submit("long", dict.fromkeys(range(100), 10_000), False, 0)
        return orders, await dispatcher.snapshot()

    orders, snapshot = asyncio.run(ordered())

    assert {order.replica for order in orders if isinstance(order, Order)} == {"a", "c"}
    assert snapshot["running"] == {"T4": 2}


class FailingScheduler:
    """Stands before the real one and fails on the first events of a kind."""

    def __init__(self, scheduler: Any, kind: type, *, n_failures: int) -> None:
        self._scheduler, self._kind, self._left = scheduler, kind, n_failures
        self.n_seen = 0

    def on_event(self, now_ms: float, event: Event) -> Any:
        if isinstance(event, self._kind):
            self.n_seen += 1
            self._left -= 1
            if self._left >= 0:
                raise ZeroDivisionError("nobody foresaw it")
        return self._scheduler.on_event(now_ms, event)


async def let_it_fail(kind: type, dispatcher: Dispatcher, *, n_failures: int) -> None:
    """Until the dispatcher's scheduler has met three such events, of which the first fail."""
    scheduler = FailingScheduler(dispatcher._scheduler, kind, n_failures=n_failures)
    dispatcher._scheduler = scheduler  # type: ignore[assignment]
    await dispatcher._ensure_watching()
    async with asyncio.timeout(5):
        while scheduler.n_seen < 3:  # noqa: ASYNC110 - it sets no event
            await asyncio.sleep(0.001)
        for task in (dispatcher._watch, dispatcher._ticking):
            while not task.done():  # Python 3.11: `wait_for` may miss a cancellation
                task.cancel()
                await asyncio.sleep(0)


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deployments.dispatcher.TICK_S", 0.0)
    monkeypatch.setattr("deployments.dispatcher.FORGET_AFTER_S", -1.0)
    monkeypatch.setattr(Dispatcher, "_recount", lambda self: asyncio.sleep(0))


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("n_failures", [1, 3])
def test_the_ticks_go_on_after_one_that_fails_and_the_log_tells_it_once(
    n_failures: int, caplog: pytest.LogCaptureFixture
) -> None:
    asyncio.run(let_it_fail(Tick, new_dispatcher(), n_failures=n_failures))

    told = [record for record in caplog.records if "Late chunks" in record.message]
    assert len(told) == 1
    assert told[0].exc_info


@pytest.mark.usefixtures("hurried")
def test_requests_are_still_forgotten_after_one_that_could_not_be(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def three_routers_go() -> int:
        dispatcher = Dispatcher([SPEC], DispatcherSettings(poll_s=0.01), {"T4": "Asr-T4"}, AIMS)
        for request in ("one", "two", "three"):
            dispatcher._mailboxes[request] = _Mailbox()
        await let_it_fail(Cancel, dispatcher, n_failures=1)
        return len(dispatcher._mailboxes)

    assert asyncio.run(three_routers_go()) == 0
    assert "A request whose router has gone could not be ended." in caplog.text


def test_a_router_that_submits_again_is_not_taken_for_gone() -> None:
    async def seen_s() -> float:
        dispatcher = new_dispatcher()
        mailbox = dispatcher._mailboxes["long"] = _Mailbox()
        mailbox.seen_s = 0.0
        await dispatcher.submit("long", {}, True, 0)
        return mailbox.seen_s

    assert asyncio.run(seen_s()) > 0
