"""A receiver of webhooks at loopback, and a job whose end it is to be told."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from deployments.core.jobs.model import Json, NewFile, NewJob, new_id
from deployments.core.types import TranscribeOptions
from deployments.database.connection import now_s
from deployments.database.tables import deliveries
from deployments.jobs.outbox import Outbox
from deployments.jobs.store import Store
from deployments.jobs.webhooks import Sender
from deployments.outgoing.allowed import allowed
from deployments.outgoing.guard import Guard

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


class Receiver:
    """Answers each request with the next of `statuses`; the last one holds on."""

    def __init__(self, statuses: Sequence[int], location: str) -> None:
        self.statuses, self.location = [*statuses], location
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.url = ""
        self.guard = Guard(allowed())

    @property
    def ids(self) -> list[str]:
        return [headers["webhook-id"] for headers, _ in self.got]


@contextmanager
def receiving(*statuses: int, location: str = "/moved") -> Iterator[Receiver]:
    """The receiver, with a guard that permits it and nothing else of this network."""
    receiver = Receiver(statuses, location)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            receiver.got.append(({k.lower(): v for k, v in self.headers.items()}, body))
            last = len(receiver.statuses) == 1
            self.send_response(receiver.statuses[0] if last else receiver.statuses.pop(0))
            self.send_header("Location", receiver.location)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_POST

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        receiver.url = f"http://127.0.0.1:{server.server_port}/hook"
        receiver.guard = Guard(allowed([f"127.0.0.1:{server.server_port}"]))
        yield receiver
        server.shutdown()
        thread.join()


async def described(job: str) -> Json:
    return {"id": job, "state": "canceled", "finished_at": 12.5, "name": "周会"}


async def ended_job(engine: AsyncEngine, url: str | None) -> str:
    """The id of a job that has ended, and whose webhook goes to the URL."""
    file = NewFile("a.wav", object_key="jobs/x/0/audio", n_bytes=3, sha256="0" * 64)
    job = NewJob(new_id("job"), (file,), TranscribeOptions(), "a" * 64, webhook_url=url)
    store = Store(engine, max_waiting=1000)
    await store.submit(job)
    await store.cancel(job.id, None)
    return job.id


async def attempt(engine: AsyncEngine, guard: Guard, **more: Any) -> bool:
    """One attempt at what is due. False if nothing is."""
    outbox = Outbox(engine)
    delivery = await outbox.take()
    if delivery is None:
        return False
    await Sender(outbox, guard, described, **more).deliver(delivery, SECRET)
    return True


async def pass_time(engine: AsyncEngine, seconds: float) -> None:
    """Moves every delivery into the past by so many seconds."""
    moved = {
        "created_s": deliveries.c.created_s - seconds,
        "next_s": deliveries.c.next_s - seconds,
    }
    async with engine.begin() as connection:
        await connection.execute(sa.update(deliveries).values(moved))


async def next_in_s(engine: AsyncEngine) -> float:
    """Seconds until the delivery is due again."""
    asked = sa.select(deliveries.c.next_s - now_s())
    async with engine.begin() as connection:
        return float((await connection.execute(asked)).scalar_one())


async def until(condition: Any) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - what is waited for is in another thread
            await asyncio.sleep(0.02)
