"""Delivers webhooks: POSTs what happened to a job to the URL that its client named.

Every connection goes through the guard of `outgoing`. No redirect is followed, because a receiver
that moved has to be named anew.
"""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
import time
from collections.abc import Awaitable, Callable
from typing import Any

import httpcore
import sqlalchemy as sa

from deployments.core.errors import AsrError
from deployments.core.jobs.model import Json
from deployments.jobs.outbox import Outbox, Outcome
from deployments.jobs.signing import headers
from deployments.outgoing.guard import CONNECT_TIMEOUT_S, Guard, connections
from deployments.outgoing.urls import parsed

logger = logging.getLogger("ray.serve")

ANSWER_TIMEOUT_S = 15.0
AT_ONCE = 8
POLL_S = 0.5
TROUBLE_PAUSE_S = 2.0
MAX_ERROR_CHARS = 200


class Sender:
    """Delivers what is due. `describe` gives the JSON of a job."""

    def __init__(
        self,
        outbox: Outbox,
        guard: Guard,
        describe: Callable[[str], Awaitable[Json]],
        *,
        context: ssl.SSLContext | None = None,
    ) -> None:
        """`context` says which certificates count, in place of the machine's."""
        self._outbox, self._guard, self._describe = outbox, guard, describe
        self._context = context
        self._sending: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Delivers for ever, several webhooks at the same time."""
        secret = ""
        while True:
            try:
                secret = secret or await self._outbox.secret()
                began = len(self._sending) < AT_ONCE and await self._perhaps_begin(secret)
            except ValueError:
                raise  # the secret of the environment cannot be used
            except Exception as error:
                logger.error("No webhook can be delivered: %s", error)
                began = False
                await asyncio.sleep(TROUBLE_PAUSE_S)
            if not began:
                await asyncio.sleep(POLL_S)

    async def _perhaps_begin(self, secret: str) -> bool:
        delivery = await self._outbox.take()
        if delivery is None:
            return False
        task = asyncio.create_task(self.deliver(delivery, secret))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)
        return True

    async def deliver(self, delivery: sa.Row[Any], secret: str) -> None:
        """One attempt, which is written down."""
        try:
            body = delivery.body or await self._body(delivery)
            began_s = time.monotonic()
            status, error = await self._post(delivery, secret, body.encode())
            took_ms = round((time.monotonic() - began_s) * 1000)
            await self._outbox.tell(delivery, Outcome(status, error, took_ms))
        except Exception as error:  # the delivery is due again after its lease
            logger.warning("A webhook could not be delivered or written down: %s", error)

    async def _body(self, delivery: sa.Row[Any]) -> str:
        job = await self._describe(delivery.job)
        body = json.dumps(
            {"type": delivery.event, "timestamp": job["finished_at"], "data": job},
            ensure_ascii=False,
        )
        await self._outbox.fill(delivery.id, body)
        return body

    async def _post(
        self, delivery: sa.Row[Any], secret: str, body: bytes
    ) -> tuple[int | None, str | None]:
        """The status of the receiver's answer, or why there was none."""
        try:
            target = parsed(delivery.url)
            url = httpcore.URL(
                scheme=target.scheme, host=target.host, port=target.port, target=target.path
            )
            sent = {
                "host": target.authority,
                "content-length": str(len(body)),
                "user-agent": "paraformer-cluster",
                **headers(secret, delivery.id, int(time.time()), body),
            }
            async with (
                asyncio.timeout(ANSWER_TIMEOUT_S),
                connections(self._guard, context=self._context) as pool,
                pool.stream(
                    "POST",
                    url,
                    headers=list(sent.items()),
                    content=body,
                    extensions={"timeout": {"connect": CONNECT_TIMEOUT_S}},
                ) as answer,
            ):
                return answer.status, None
        except AsrError as error:  # also a refused place: its name may only be missing for now
            return None, str(error)
        except TimeoutError:
            return None, f"no answer within {ANSWER_TIMEOUT_S:g} s"
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException) as error:
            return None, f"{type(error).__name__}: {error}"[:MAX_ERROR_CHARS]
