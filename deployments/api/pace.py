"""Keeps Serve's proxy from reading an upload faster than the ingress does.

Serve's proxy takes what a client sends into memory and hands it on, however far behind the ingress
is (Ray 2.60). `Paced` runs in the proxy and stops reading a few megabytes ahead of the ingress.
TCP then slows the client down. The ingress counts what it has read in a file in memory, which the
proxy looks at. `Progress` is the ingress' side.

Nothing is read while the ingress has not begun, because it may refuse the request by its head.
"""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import suppress
from dataclasses import asdict
from types import TracebackType
from typing import BinaryIO, Self

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments.core.types import StoredUpload
from deployments.request.stored import NotHere, opened, stored

AHEAD_BYTES = 4_000_000
# The speed for an ingress that has not begun, or that cannot open the file from another node.
UNSEEN_BYTES_PER_S = 32_000_000
HOLD_S = 0.25  # for which such an ingress is waited for; the check of a key takes milliseconds
LOOK_S = 0.01
COUNT_BYTES = 8
BEGUN = 1  # the count of an ingress that has read nothing yet, but will
KEY = "paraformer_cluster.progress"  # in the scope, which no client can write


class Paced:
    """An ASGI middleware of the proxy. Bodies of a few megabytes pass as they are."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or _announced_bytes(scope) <= AHEAD_BYTES:
            return await self._app(scope, receive, send)
        with _counter() as file:
            place = asdict(stored(file))
            await self._app({**scope, KEY: place}, _paced(receive, file), send)


def _counter() -> BinaryIO:
    """A file in memory that holds the number 0."""
    file = os.fdopen(os.memfd_create("progress"), "w+b", buffering=0)
    file.write(bytes(COUNT_BYTES))
    return file


def _announced_bytes(scope: Scope) -> float:
    """The length of the body. Infinite where the client does not tell it."""
    headers = dict(scope["headers"])
    if b"transfer-encoding" in headers:
        return float("inf")
    return int(headers.get(b"content-length", 0))


def _paced(receive: Receive, file: BinaryIO) -> Receive:
    began_s, n_taken = time.monotonic(), 0

    def n_allowed() -> float:
        n_read = int.from_bytes(os.pread(file.fileno(), COUNT_BYTES, 0), "little")
        if n_read:
            return AHEAD_BYTES + n_read
        waited_s = time.monotonic() - began_s - HOLD_S
        return AHEAD_BYTES + UNSEEN_BYTES_PER_S * waited_s if waited_s > 0 else -1

    async def paced() -> Message:
        nonlocal n_taken
        while n_taken > n_allowed():  # noqa: ASYNC110 - another process changes the file
            await asyncio.sleep(LOOK_S)
        message = await receive()
        n_taken += len(message.get("body", b""))
        return message

    return paced


class Progress:
    """Tells the proxy how much of a request's body has been read, until the block is left."""

    def __init__(self, scope: Scope) -> None:
        self._file: BinaryIO | None = None
        if KEY in scope:
            with suppress(NotHere):  # on another node, for which the proxy reads slowly
                self._file = opened(StoredUpload(**scope[KEY]), "r+b")
                self.tell(BEGUN)

    def tell(self, n_bytes: int) -> None:
        if self._file is not None:
            os.pwrite(self._file.fileno(), max(n_bytes, BEGUN).to_bytes(COUNT_BYTES, "little"), 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._file is not None:
            self._file.close()
