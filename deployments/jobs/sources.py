"""What may be a recording of a job, and how one that a URL names is fetched.

Over HTTP, or from buckets of the configuration.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from tempfile import TemporaryFile
from typing import BinaryIO, cast
from urllib.parse import urlsplit

from deployments.config import Limits
from deployments.core.errors import (
    BadRequest,
    FetchFailed,
    InvalidAudio,
    StorageFailed,
    TimedOut,
    UploadTooLarge,
    UrlRefused,
)
from deployments.core.jobs.model import NewJob
from deployments.core.types import Upload
from deployments.objects import NoObject, Objects, bucket_objects
from deployments.outgoing.bucket_urls import check_bucket_url, is_bucket_url
from deployments.outgoing.urls import parsed
from deployments.request.fetching import fetcher_for
from deployments.service_settings import Fetch, JobsSettings

BYTES_PER_MB = 1_000_000


class Sources:
    """`Fetch` of the worker. A URL was checked when its job came; the guard checks it again."""

    def __init__(
        self, fetch: Fetch, limits: Limits, buckets: Mapping[str, Objects] | None = None
    ) -> None:
        """`buckets` stands for those of the configuration."""
        self._fetcher = fetcher_for(fetch, limits)
        self._fetch, self._limits = fetch, limits
        self._buckets = dict(buckets or {})

    async def __call__(self, url: str) -> BinaryIO:
        """What the URL names, in an open file. Raises as `Fetcher.fetch`."""
        if is_bucket_url(url):
            file = await self._from_bucket(url)
        elif self._fetcher is None:
            raise FetchFailed("URLs are not fetched here: the setting fetch.enabled is off.")
        else:
            file = (await self._fetcher.fetch(url)).file
        if file.seek(0, 2) == 0:
            file.close()
            raise InvalidAudio("The file is empty.")
        return file

    async def _from_bucket(self, url: str) -> BinaryIO:
        parts = urlsplit(url)
        root, key = f"{parts.scheme}://{parts.netloc}", parts.path.lstrip("/")
        if root not in self._buckets:
            self._buckets[root] = bucket_objects(root, is_ours=False)
        objects = self._buckets[root]
        file = cast(BinaryIO, TemporaryFile())  # noqa: SIM115 - the caller closes it
        try:
            async with asyncio.timeout(self._fetch.timeout_s):
                n_bytes = await objects.size(key)
                if n_bytes > self._limits.max_upload_mb * BYTES_PER_MB:
                    raise UploadTooLarge(self._limits.max_upload_mb)
                async for piece in objects.pieces(key, 0, n_bytes):
                    file.write(piece)
        except TimeoutError:
            file.close()
            raise TimedOut("fetch of the URL", self._fetch.timeout_s) from None
        except NoObject:
            file.close()
            raise FetchFailed("The bucket has no such object.") from None
        except StorageFailed:  # it is the client's bucket: to wait for it has an end
            file.close()
            raise FetchFailed("The bucket cannot be read.") from None
        except BaseException:
            file.close()
            raise
        return file


def check(
    job: NewJob, upload: Upload | None, limits: Limits, fetch: Fetch, settings: JobsSettings
) -> None:
    """What the HTTP front checks, for a job that comes over a Ray handle instead.

    Raises BadRequest, UrlRefused, InvalidAudio and UploadTooLarge.

    `upload` is the recording of the job's only file; None for a job of URLs.
    """
    if len(job.files) > settings.max_files:
        raise BadRequest(f"A job has at most {settings.max_files} files.", "url")
    if job.webhook_url and not settings.webhooks:
        raise BadRequest("Webhooks are off: the setting is jobs.webhooks.", "webhook")
    if upload is not None:
        if not len(upload):
            raise InvalidAudio("The file is empty.")
        if len(upload) > limits.max_upload_mb * BYTES_PER_MB:
            raise UploadTooLarge(limits.max_upload_mb)
        return
    for file in job.files:
        _check_url(file.url or "", fetch)


def _check_url(url: str, fetch: Fetch) -> None:
    if is_bucket_url(url):
        check_bucket_url(url, fetch.buckets)
    elif not fetch.enabled:
        raise UrlRefused("URLs are not fetched here: the setting fetch.enabled is off.")
    else:
        target = parsed(url)
        fetch.allowed.check_port(target.host, target.port)
