"""Jobs whose workers are killed at random, and the rate at which files are leased.

20 clients submit the jobs. Each job has one file of eight segments and a webhook, and workers are
processes that are killed with -9. A worker's own work is played, so that the database is what is
measured. On PostgreSQL every connection is cut twice, by the server.

Figures, for `sqlite` and `postgres`:

- `lost_*`: jobs that did not end as completed with the right text.
- `twice_*`: jobs whose end was told by more than one webhook id.
- `undelivered_*`: jobs whose webhook did not arrive.
- `deaths_*`: workers that were killed while they had work.
- `audio_recognised_twice_*`: the part of the audio that was recognised a second time.
- `jobs_per_s_*`: all of it together, deaths included.
- `claims_per_s_*`: leases that one process takes and completes, one after another.
"""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from benchmarks.material.marked import marked_folder
from benchmarks.material.postgres import Server, postgres
from benchmarks.results import Figures, say
from benchmarks.service.job_worker import N_SEGMENTS
from deployments.core.jobs.model import COMPLETED, OPEN, NewFile, NewJob, new_id
from deployments.core.jobs.objects import audio_key, result_key
from deployments.core.types import TranscribeOptions
from deployments.database.connection import connect
from deployments.database.migrate import migrate
from deployments.database.tables import deliveries, files
from deployments.jobs.leases import Leases
from deployments.jobs.store import Store
from deployments.objects import Objects

N_CLIENTS, N_WORKERS = 20, 4
KILL_EVERY_S = 4.0
CLAIMS = 300
PATIENCE_S = 300.0
N_CUTS = 2


def run(jobs: int = 1000) -> Figures:
    figures: Figures = {"jobs": jobs}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(postgres(is_durable=True))
        for kind in ("sqlite", "postgres"):
            url = f"sqlite:///{folder / 'state.db'}"
            if kind == "postgres":
                url = stack.enter_context(server.database())
            say(f"== {kind}")
            home = folder / kind
            home.mkdir()
            found = asyncio.run(_claims(url))
            found |= _ordeal(url, home, jobs, server if kind == "postgres" else None)
            figures |= {f"{name}_{kind}": value for name, value in found.items()}
    for name in ("lost", "twice", "undelivered"):
        figures[name] = sum(int(figures[f"{name}_{kind}"]) for kind in ("sqlite", "postgres"))
    return figures


async def _claims(url: str) -> Figures:
    engine = connect(url)
    await migrate(engine)
    store, leases = Store(engine, max_waiting=10**6), Leases(engine, "one", lease_s=60)
    file = NewFile("a", object_key="a")
    job = NewJob(new_id("job"), (file,) * CLAIMS, TranscribeOptions(), body_hash="")
    await store.submit(job)
    began_s = time.perf_counter()
    while (lease := await leases.take()) is not None:
        await leases.complete(lease)
    took_s = time.perf_counter() - began_s
    await store.delete(job.id, None)
    await engine.dispose()
    return {"claims_per_s": round(CLAIMS / took_s, 1)}


class Receiver:
    """Counts the ids of the webhooks for each job. Every fifth of them it refuses at first."""

    def __init__(self) -> None:
        self.ids: dict[str, Counter[str]] = defaultdict(Counter)
        counting, tried, lock = self.ids, Counter[str](), threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                message = self.headers["webhook-id"]
                with lock:
                    tried[message] += 1
                    is_refused = tried[message] == 1 and len(tried) % 5 == 0
                    if not is_refused:
                        counting[body["data"]["id"]][message] += 1
                self.send_response(503 if is_refused else 204)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.name = f"127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


def _ordeal(url: str, home: Path, n_jobs: int, server: Server | None) -> Figures:
    receiver, began_s = Receiver(), time.perf_counter()
    try:
        with _dying_workers(url, home, receiver.name) as (deaths, spare):
            found = asyncio.run(_through(url, home, n_jobs, receiver, server, spare))
            found["deaths"] = len(deaths)
    finally:
        receiver.server.shutdown()
        receiver.server.server_close()
    lines = (home / "recognised").read_text("ascii").splitlines()
    return found | {
        "audio_recognised_twice": round(len(lines) / len(set(lines)) - 1, 4),
        "jobs_per_s": round(n_jobs / (time.perf_counter() - began_s), 1),
    }


async def _through(
    url: str,
    home: Path,
    n_jobs: int,
    receiver: Receiver,
    server: Server | None,
    spare: threading.Event,
) -> Figures:
    """Submits the jobs, waits for their ends and their webhooks, and counts what is wrong."""
    engine, objects = connect(url), marked_folder(home / "objects")
    await migrate(engine)
    store = Store(engine, max_waiting=10**6)
    names = [new_id("job") for _ in range(n_jobs)]
    waiting = list(names)

    async def client() -> None:
        while waiting:
            name = waiting.pop()
            await objects.put(audio_key(name, 0), name.encode())
            file = NewFile("a", object_key=audio_key(name, 0), sha256="0" * 64)
            options = TranscribeOptions()
            new = NewJob(
                name, (file,), options, body_hash="", idempotency_key=name,
                webhook_url=f"http://{receiver.name}/",
            )  # fmt: skip
            while True:  # as a client that sends again with its Idempotency-Key
                try:
                    await store.submit(new)
                    break
                except sa.exc.DBAPIError:
                    await asyncio.sleep(0.2)

    submitting = asyncio.gather(*(client() for _ in range(N_CLIENTS)))
    until_s, cuts = time.monotonic() + PATIENCE_S, 0
    while True:
        await asyncio.sleep(0.5)
        try:
            n_open = await _count(engine, sa.select(sa.func.count()).where(files.c.state.in_(OPEN)))
            told = deliveries.c.state == "waiting"
            n_untold = await _count(engine, sa.select(sa.func.count()).where(told))
        except sa.exc.DBAPIError:
            continue
        if submitting.done() and not n_open:
            spare.set()  # what is left are webhooks that have to wait for their next attempt
            if not n_untold:
                break
        if time.monotonic() > until_s:
            break
        if server is not None and cuts < N_CUTS and n_open < n_jobs * (0.7 - 0.4 * cuts):
            cuts += submitting.done()
            if submitting.done():
                say(f"cutting every connection: {server.cut()}")
    await submitting
    lost = 0
    for name in names:
        row, _ = await store.find(name, None)
        expected = "".join(f"{name}-{i}" for i in range(N_SEGMENTS))
        good = row.state == COMPLETED
        lost += not (good and expected == await _text(objects, name))
    await engine.dispose()
    return {
        "lost": lost,
        "twice": sum(len(receiver.ids[name]) > 1 for name in names),
        "undelivered": sum(not receiver.ids[name] for name in names),
    }


async def _text(objects: Objects, name: str) -> str:
    body = json.loads(await objects.get(result_key(name, 0)))
    return str(body["text"])


async def _count(engine: AsyncEngine, chosen: sa.Select[Any]) -> int:
    async with engine.begin() as connection:
        return int((await connection.execute(chosen)).scalar_one())


@contextmanager
def _dying_workers(
    url: str, home: Path, receiver: str
) -> Iterator[tuple[list[int], threading.Event]]:
    """Workers, one of which is killed from time to time and replaced.

    Yields who died, and an event that ends the killing.
    """
    command = [sys.executable, "-m", "benchmarks.service.job_worker", url, str(home), receiver]
    log = (home / "log").open("ab")
    workers = [subprocess.Popen(command, stderr=log) for _ in range(N_WORKERS)]
    deaths: list[int] = []
    stop, rng = threading.Event(), random.Random(0)

    def kill() -> None:
        while not stop.wait(KILL_EVERY_S * rng.uniform(0.5, 1.5)):
            victim = rng.randrange(N_WORKERS)
            workers[victim].kill()
            workers[victim].wait()
            deaths.append(workers[victim].pid)
            workers[victim] = subprocess.Popen(command, stderr=log)

    killing = threading.Thread(target=kill)
    killing.start()
    try:
        yield deaths, stop
    finally:
        stop.set()
        killing.join()
        for worker in workers:
            worker.kill()
            worker.wait()
        log.close()
