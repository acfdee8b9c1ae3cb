"""The outbox: who gets a delivery, replay, the log, and the secret that signs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.ext.asyncio import AsyncEngine
from standardwebhooks import Webhook

from deployments.core.errors import UnknownJob
from deployments.jobs.outbox import LEASE_S, SECRET_VARIABLE, Outbox, Outcome
from deployments.jobs.signing import headers, key_of, new_secret
from tests.jobs.webhooks.receivers import SECRET, attempt, ended_job, pass_time, receiving

Run = Callable[[Any], Any]


def test_a_job_without_a_webhook_has_no_delivery(in_database: Run) -> None:
    async def work(engine: AsyncEngine) -> Any:
        job = await ended_job(engine, None)
        return await Outbox(engine).take(), await Outbox(engine).of_job(job)

    assert in_database(work) == (None, [])


def test_a_delivery_is_taken_once_until_its_lease_ends(in_database: Run) -> None:
    async def work(engine: AsyncEngine) -> Any:
        await ended_job(engine, "http://public.test/")
        outbox = Outbox(engine)
        first, second = await asyncio.gather(outbox.take(), outbox.take())
        await pass_time(engine, LEASE_S + 1)  # a sender that died gave no outcome
        third = await outbox.take()
        return first, second, third

    first, second, third = in_database(work)

    assert {first is None, second is None} == {True, False}
    assert third.id == (first or second).id
    assert third.n_attempts == 2


def test_a_replay_sends_the_same_message_again(in_database: Run) -> None:
    async def work(engine: AsyncEngine) -> Any:
        job = await ended_job(engine, receiver.url)
        outbox = Outbox(engine)
        await attempt(engine, receiver.guard)
        (stopped,) = await outbox.of_job(job)
        assert not await attempt(engine, receiver.guard)
        await outbox.replay(job, stopped["id"])
        await attempt(engine, receiver.guard)
        return stopped, (await outbox.of_job(job))[0]

    with receiving(410, 204) as receiver:
        stopped, delivered = in_database(work)

    assert (stopped["state"], delivered["state"]) == ("stopped", "delivered")
    assert receiver.ids == [stopped["id"]] * 2
    assert receiver.got[0][1] == receiver.got[1][1]
    assert [tried["status"] for tried in delivered["attempts"]] == [410, 204]


def test_a_replay_after_a_day_has_a_day_of_its_own(in_database: Run) -> None:
    async def work(engine: AsyncEngine) -> Any:
        job = await ended_job(engine, receiver.url)
        outbox = Outbox(engine)
        await pass_time(engine, 25 * 3600)
        await attempt(engine, receiver.guard)
        (late,) = await outbox.of_job(job)
        await outbox.replay(job, late["id"])
        await attempt(engine, receiver.guard)
        return late["state"], (await outbox.of_job(job))[0]["state"]

    with receiving(500) as receiver:
        assert in_database(work) == ("stopped", "waiting")


def test_only_a_delivery_of_the_job_is_replayed(in_database: Run) -> None:
    async def work(engine: AsyncEngine) -> None:
        job, other = [await ended_job(engine, "http://public.test/") for _ in range(2)]
        outbox = Outbox(engine)
        (delivery,) = await outbox.of_job(other)
        with pytest.raises(UnknownJob):
            await outbox.replay(job, delivery["id"])
        with pytest.raises(UnknownJob):
            await outbox.replay(job, "msg_none")

    in_database(work)


def test_the_log_says_when_what_was_answered_and_how_long_it_took(in_database: Run) -> None:
    async def work(engine: AsyncEngine) -> Any:
        job = await ended_job(engine, "http://public.test/")
        outbox = Outbox(engine)
        delivery = await outbox.take()
        assert delivery is not None
        await outbox.tell(delivery, Outcome(None, "ConnectError: refused", 12))
        await outbox.tell(delivery, Outcome(204, None, 34))
        return await outbox.of_job(job)

    (delivery,) = in_database(work)

    first, second = delivery["attempts"]
    assert (first["status"], first["error"], first["took_ms"]) == (
        None,
        "ConnectError: refused",
        12,
    )
    assert (second["status"], second["error"], second["took_ms"]) == (204, None, 34)
    assert first["at"] <= second["at"]


def test_the_secret_is_made_once(in_database: Run) -> None:
    async def work(engine: AsyncEngine) -> Any:
        found = await asyncio.gather(*(Outbox(engine).secret({}) for _ in range(4)))
        return {*found, await Outbox(engine).secret({})}

    (secret,) = in_database(work)

    assert len(key_of(secret)) == 24


def test_a_secret_of_the_environment_comes_first(in_database: Run) -> None:
    async def work(engine: AsyncEngine) -> Any:
        return await Outbox(engine).secret({SECRET_VARIABLE: SECRET})

    assert in_database(work) == SECRET


@pytest.mark.parametrize("secret", ["whsec_short", "whsec_" + "!" * 40, "password", ""])
def test_a_secret_that_cannot_be_used_is_refused_and_not_shown(secret: str) -> None:
    with pytest.raises(ValueError, match="24 to 64 bytes") as caught:
        key_of(secret)

    assert secret == "" or secret not in str(caught.value)


@given(st.binary(max_size=500).map(lambda body: body.hex().encode()), st.booleans())
def test_any_body_is_signed_as_the_standard_library_signs_it(body: bytes, is_new: bool) -> None:
    secret = new_secret() if is_new else SECRET
    signer = Webhook(secret)

    sent = headers(secret, "msg_1", 1_790_000_000, body)

    at = datetime.fromtimestamp(1_790_000_000, UTC)
    assert sent["webhook-signature"] == signer.sign("msg_1", at, body.decode())
