"""Webhooks at a receiver: what it gets, what its answers cause, and where none is ever sent."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine
from standardwebhooks import Webhook, WebhookVerificationError

from deployments.jobs import webhooks
from deployments.jobs.outbox import PAUSES_S, Outbox
from deployments.jobs.webhooks import Sender
from deployments.outgoing.allowed import allowed
from deployments.outgoing.guard import Guard
from tests.jobs.webhooks.receivers import (
    SECRET,
    attempt,
    described,
    ended_job,
    next_in_s,
    pass_time,
    receiving,
    until,
)
from tests.outgoing.certificates import certified
from tests.outgoing.internet import METADATA, PUBLIC, Internet, answer

Run = Callable[[Any], Any]


def deliver(in_database: Run, url: str, guard: Guard, *, times: int = 1, **more: Any) -> Any:
    """The delivery after so many attempts, each at its time."""

    async def work(engine: AsyncEngine) -> Any:
        job = await ended_job(engine, url)
        for _ in range(times):
            await attempt(engine, guard, **more)
            await pass_time(engine, PAUSES_S[-1])
        (found,) = await Outbox(engine).of_job(job)
        return found

    return in_database(work)


def test_the_standard_library_of_webhooks_verifies_ours(in_database: Run) -> None:
    with receiving(204) as receiver:
        delivery = deliver(in_database, receiver.url, receiver.guard)

    ((headers, body),) = receiver.got
    event = Webhook(SECRET).verify(body, headers)
    assert event["type"] == delivery["event"] == "transcription_job.canceled"
    assert event["timestamp"] == 12.5
    assert event["data"] == asyncio.run(described(event["data"]["id"]))
    assert delivery["state"] == "delivered"
    assert headers["webhook-id"] == delivery["id"]
    assert headers["content-type"] == "application/json"


def test_a_body_that_was_changed_is_not_verified(in_database: Run) -> None:
    with receiving(204) as receiver:
        deliver(in_database, receiver.url, receiver.guard)

    ((headers, body),) = receiver.got
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(body.replace(b"canceled", b"completed"), headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(body, headers | {"webhook-id": "msg_other"})


def test_every_attempt_has_the_same_id_and_the_same_body(in_database: Run) -> None:
    with receiving(500, 503, 204) as receiver:
        delivery = deliver(in_database, receiver.url, receiver.guard, times=4)

    assert receiver.ids == [delivery["id"]] * 3
    assert len({body for _, body in receiver.got}) == 1
    assert [tried["status"] for tried in delivery["attempts"]] == [500, 503, 204]
    assert delivery["state"] == "delivered"


@pytest.mark.parametrize(
    ("status", "state"),
    [
        (200, "delivered"),
        (202, "delivered"),
        (302, "waiting"),
        (308, "waiting"),
        (400, "stopped"),
        (404, "stopped"),
        (408, "waiting"),
        (410, "stopped"),
        (429, "waiting"),
        (500, "waiting"),
        (503, "waiting"),
    ],
)
def test_the_answer_decides_what_follows(in_database: Run, status: int, state: str) -> None:
    with receiving(status) as receiver:
        delivery = deliver(in_database, receiver.url, receiver.guard)

    assert delivery["state"] == state
    assert [tried["status"] for tried in delivery["attempts"]] == [status]
    assert len(receiver.got) == 1


def test_a_redirect_is_not_followed(in_database: Run) -> None:
    with receiving(200) as other, receiving(307, location=other.url) as receiver:
        host = other.url.removeprefix("http://").partition("/")[0]
        own = receiver.url.removeprefix("http://").partition("/")[0]

        deliver(in_database, receiver.url, Guard(allowed([host, own])))

    assert (len(receiver.got), other.got) == (1, [])


@pytest.mark.parametrize(
    "place",
    [
        f"http://{METADATA}/latest/meta-data",
        "http://100.100.100.200/latest/meta-data",
        "http://10.0.0.5/hook",
        "http://127.0.0.1/hook",
        "http://[::1]/hook",
        "http://[::ffff:127.0.0.1]/hook",
        "http://[64:ff9b::7f00:1]/hook",
        "http://inside.test/hook",
        "http://public.test:6379/hook",
        "http://none.test/hook",
    ],
)
def test_a_place_that_is_refused_is_never_connected_to(in_database: Run, place: str) -> None:
    internet = Internet({}, {"inside.test": [["10.0.0.5"]]})
    guard = Guard(allowed(), resolve=internet.resolve, network=internet)

    delivery = deliver(in_database, place, guard, times=2)

    assert internet.connected == []
    assert [tried["status"] for tried in delivery["attempts"]] == [None, None]
    assert all(tried["error"] for tried in delivery["attempts"])
    assert delivery["state"] == "waiting"


def test_a_name_that_turns_to_a_private_address_is_not_followed_there(in_database: Run) -> None:
    internet = Internet({"/hook": answer(b"", 500)}, {"rebind.test": [[PUBLIC], ["127.0.0.1"]]})
    guard = Guard(allowed(), resolve=internet.resolve, network=internet)

    async def work(engine: AsyncEngine) -> Any:
        await ended_job(engine, "http://rebind.test/hook")
        async with internet.running():
            await attempt(engine, guard)
            await pass_time(engine, PAUSES_S[0])
            await attempt(engine, guard)

    in_database(work)

    assert internet.connected == [(PUBLIC, 80)]
    assert internet.looked_up == ["rebind.test"] * 2


def test_a_receiver_that_is_not_there_is_tried_again(in_database: Run) -> None:
    with receiving(204) as receiver:
        pass

    delivery = deliver(in_database, receiver.url, receiver.guard)

    (tried,) = delivery["attempts"]
    assert (delivery["state"], tried["status"]) == ("waiting", None)
    assert tried["error"].startswith("ConnectError")


def test_a_certificate_that_nobody_vouches_for_ends_the_attempt(
    in_database: Run, tmp_path: Path
) -> None:
    server, _ = certified("public.test", tmp_path)
    internet = Internet({"/hook": answer(b"")})
    guard = Guard(allowed(), resolve=internet.resolve, network=internet)

    async def work(engine: AsyncEngine) -> Any:
        job = await ended_job(engine, "https://public.test/hook")
        async with internet.running(server):
            await attempt(engine, guard)
        return await Outbox(engine).of_job(job)

    (delivery,) = in_database(work)

    assert delivery["state"] == "waiting"
    assert "certificate" in delivery["attempts"][0]["error"]
    assert internet.asked == []


def test_a_receiver_that_hangs_is_left(in_database: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "ANSWER_TIMEOUT_S", 0.2)

    async def hang(_: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    internet = Internet({"/hook": hang})
    guard = Guard(allowed(), resolve=internet.resolve, network=internet)

    async def work(engine: AsyncEngine) -> Any:
        job = await ended_job(engine, "http://public.test/hook")
        async with internet.running():
            await attempt(engine, guard)
        return await Outbox(engine).of_job(job)

    (delivery,) = in_database(work)

    assert delivery["attempts"][0]["error"] == "no answer within 0.2 s"
    assert delivery["state"] == "waiting"


def test_the_pauses_grow_and_after_a_day_there_is_an_end(in_database: Run) -> None:
    async def work(engine: AsyncEngine) -> Any:
        job = await ended_job(engine, receiver.url)
        waited: list[int] = []
        while await attempt(engine, receiver.guard):
            waited.append(round(await next_in_s(engine)))
            await pass_time(engine, waited[-1])
        return waited, await Outbox(engine).of_job(job)

    with receiving(500) as receiver:
        waited, (delivery,) = in_database(work)

    assert waited[: len(PAUSES_S)] == [*PAUSES_S]
    assert set(waited[len(PAUSES_S) :]) == {PAUSES_S[-1]}
    assert 23 * 3600 <= sum(waited[:-1]) <= 24 * 3600
    assert len(delivery["attempts"]) == len(waited) == len(receiver.got)
    assert delivery["state"] == "stopped"


def test_a_sender_delivers_by_itself_and_several_at_once(in_database: Run) -> None:
    async def work(engine: AsyncEngine) -> Sequence[str]:
        jobs = [await ended_job(engine, receiver.url) for _ in range(3)]
        outbox = Outbox(engine)
        sending = asyncio.ensure_future(Sender(outbox, receiver.guard, described).run())
        await until(lambda: len(receiver.got) == 3)
        await asyncio.sleep(0.2)  # for the last row
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        secret = await outbox.secret({})
        told = [Webhook(secret).verify(body, headers) for headers, body in receiver.got]
        assert sorted(event["data"]["id"] for event in told) == jobs
        return [(await outbox.of_job(job))[0]["state"] for job in jobs]

    with receiving(204) as receiver:
        assert in_database(work) == ["delivered"] * 3


def test_a_body_is_json_in_utf_8(in_database: Run) -> None:
    with receiving(204) as receiver:
        deliver(in_database, receiver.url, receiver.guard)

    ((_, body),) = receiver.got
    assert "周会" in body.decode()
    assert json.loads(body)["data"]["name"] == "周会"
