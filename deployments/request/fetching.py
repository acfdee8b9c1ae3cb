"""Fetches the recording that a request names by a URL, into a file like that of an upload.

`outgoing` decides where connections go. Here are the redirects, the answer and its size. FFmpeg
never sees the URL.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from tempfile import SpooledTemporaryFile
from typing import BinaryIO, cast

import httpcore
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartParser

from deployments.config import Limits
from deployments.core.errors import FetchFailed, TimedOut, UploadTooLarge, UrlRefused
from deployments.outgoing.guard import CONNECT_TIMEOUT_S, Guard, connections
from deployments.outgoing.urls import Target, parsed, redirected
from deployments.service_settings import Fetch

IN_MEMORY_BYTES = MultiPartParser.spool_max_size  # a larger recording is in a file
MAX_REDIRECTS = 3
REDIRECTS = (301, 302, 303, 307, 308)
BYTES_PER_MB = 1_000_000
TIMEOUTS = {"connect": CONNECT_TIMEOUT_S}  # the rest is bounded by the whole


class Fetcher:
    """Fetches recordings over its guard, within the limits of an upload."""

    def __init__(
        self,
        guard: Guard,
        *,
        max_mb: float,
        timeout_s: float,
        context: ssl.SSLContext | None = None,
    ) -> None:
        """`context` says which certificates count, in place of the machine's."""
        self._guard, self._context = guard, context
        self._max_mb, self._timeout_s = max_mb, timeout_s

    async def fetch(self, url: str) -> UploadFile:
        """The recording, at its beginning. The caller closes it.

        Raises UrlRefused, FetchFailed, UploadTooLarge, TimedOut, and OSError for a full disk.
        """
        spooled = SpooledTemporaryFile(IN_MEMORY_BYTES)  # noqa: SIM115 - the caller closes it
        file = UploadFile(cast(BinaryIO, spooled), size=0)
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._follow(parsed(url), file)
            await file.seek(0)
        except TimeoutError:
            await file.close()
            raise TimedOut("fetch of the URL", self._timeout_s) from None
        except BaseException:
            file.file.close()
            raise
        return file

    async def _follow(self, target: Target, file: UploadFile) -> None:
        """Writes what is at the target, or where its redirects lead, into the file."""
        for _ in range(1 + MAX_REDIRECTS):
            async with self._answer(target) as answer:
                if answer.status not in REDIRECTS:
                    await self._receive(answer, file)
                    return
                target = redirected(target, _location(answer))
        raise UrlRefused(f"The URL leads over more than {MAX_REDIRECTS} redirects.")

    @asynccontextmanager
    async def _answer(self, target: Target) -> AsyncIterator[httpcore.Response]:
        """The answer, before its body. An error of the connection becomes one of ours."""
        request = httpcore.URL(
            scheme=target.scheme, host=target.host, port=target.port, target=target.path
        )
        try:
            async with (
                connections(self._guard, context=self._context) as pool,
                pool.stream(
                    "GET", request, headers=_headers(target), extensions={"timeout": TIMEOUTS}
                ) as answer,
            ):
                yield answer
        except (httpcore.ConnectError, httpcore.ConnectTimeout):
            raise FetchFailed("The server of the URL cannot be reached.") from None
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException):
            raise FetchFailed("The server of the URL broke off, or does not speak HTTP.") from None

    async def _receive(self, answer: httpcore.Response, file: UploadFile) -> None:
        """Writes the body into the file, until it has more bytes than an upload may have."""
        if answer.status != 200:
            raise FetchFailed(f"The server of the URL answered {answer.status}.")
        if {coding.lower() for coding in _values(answer, b"content-encoding")} - {b"identity"}:
            raise FetchFailed("The server of the URL compresses its answer, which is not read.")
        max_bytes = self._max_mb * BYTES_PER_MB
        announced = _values(answer, b"content-length")  # h11 has checked that they are numbers
        if any(int(length) > max_bytes for length in announced):
            raise UploadTooLarge(self._max_mb)
        n_bytes = 0
        async for piece in answer.aiter_stream():
            n_bytes += len(piece)
            if n_bytes > max_bytes:
                raise UploadTooLarge(self._max_mb)
            await file.write(piece)


def _headers(target: Target) -> list[tuple[bytes | str, bytes | str]]:
    return [
        ("Host", target.authority),
        ("Accept", "*/*"),
        ("Accept-Encoding", "identity"),
        ("User-Agent", "paraformer-cluster"),
    ]


def _values(answer: httpcore.Response, header: bytes) -> list[bytes]:
    """What the answer has for the header, which is named in small letters here."""
    return [value for name, value in answer.headers if name.lower() == header]


def _location(answer: httpcore.Response) -> str:
    """Where a redirect leads. Raises UrlRefused where it does not say so in one header."""
    try:
        (location,) = _values(answer, b"location")
        return location.decode("utf-8")
    except ValueError:
        raise UrlRefused("The URL leads to something that is not a URL.") from None


def fetcher_for(fetch: Fetch | None, limits: Limits) -> Fetcher | None:
    """What fetches as the settings say. None where they do not turn it on."""
    if fetch is None or not fetch.enabled:
        return None
    guard = Guard(fetch.allowed)
    return Fetcher(guard, max_mb=limits.max_upload_mb, timeout_s=fetch.timeout_s)
