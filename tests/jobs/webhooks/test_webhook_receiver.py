"""The receiver of the page about webhooks runs as it stands there."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from benchmarks.machine import free_port
from deployments.jobs.outbox import Outbox
from deployments.jobs.signing import new_secret
from deployments.outgoing.allowed import allowed
from deployments.outgoing.guard import Guard
from tests.jobs.webhooks.receivers import SECRET, attempt, ended_job
from tests.test_docs import DOCS, in_language

Run = Callable[[Any], Any]
(PROGRAM,) = in_language(DOCS / "en" / "webhooks.md", "python")


@contextmanager
def receiver(secret: str) -> Iterator[tuple[int, subprocess.Popen[str]]]:
    """The page's program, and the port at which it listens."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(port)],
        env={**os.environ, "PARAFORMER_WEBHOOK_SECRET": secret},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with process:
        _await(port)
        yield port, process
        process.terminate()


def _await(port: int) -> None:
    until_s = time.monotonic() + 30
    while time.monotonic() < until_s:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.05)
    raise AssertionError("the receiver does not start")


def delivered(in_database: Run, port: int, *, times: int = 1) -> tuple[str, Any]:
    """The job, and its delivery after it was sent so many times."""
    guard = Guard(allowed([f"127.0.0.1:{port}"]))

    async def work(engine: AsyncEngine) -> tuple[str, Any]:
        job = await ended_job(engine, f"http://127.0.0.1:{port}/hook")
        outbox = Outbox(engine)
        (delivery,) = await outbox.of_job(job)
        for _ in range(times):
            await outbox.replay(job, delivery["id"])
            await attempt(engine, guard)
        return job, (await outbox.of_job(job))[0]

    found: tuple[str, Any] = in_database(work)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_it_takes_what_is_ours_and_works_once(in_database: Run) -> None:
    with receiver(SECRET) as (port, process):
        job, delivery = delivered(in_database, port, times=2)
        process.terminate()
        assert process.stdout is not None
        printed = process.stdout.read()

    assert delivery["state"] == "delivered"
    assert [tried["status"] for tried in delivery["attempts"]] == [204, 204]
    assert printed == f"transcription_job.canceled {job}\n"


@pytest.mark.slow
@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_it_refuses_what_another_has_signed(in_database: Run) -> None:
    with receiver(new_secret()) as (port, _):
        _, delivery = delivered(in_database, port)

    assert delivery["state"] == "stopped"
    assert delivery["attempts"][0]["status"] == 401
