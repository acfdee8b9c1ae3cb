"""Recordings and results as objects: files of a folder, or of a bucket of S3, OSS or Google.

A key is a path such as `jobs/job_x/0/audio`. Objects are written whole or not at all.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import BaseError, NotFoundError
from obstore.store import GCSStore, LocalStore, ObjectStore, S3Store

from deployments.core.errors import Conflict, StorageFailed, UnknownJob
from deployments.core.formats import from_detailed
from deployments.core.jobs.model import CANCELED, COMPLETED, FAILED, Json
from deployments.core.jobs.objects import result_key
from deployments.core.types import Transcript
from deployments.service_settings import Storage
from deployments.storage import data_dir

FOLDER = "objects"
MARKER = "paraformer-cluster"  # an object that lies in every storage
PIECE_BYTES = 8 * 1024 * 1024  # of a recording, in memory at a time
PIECES_AT_ONCE = 3  # on their way to a bucket; obstore's default of 12 takes 160 MB
RETRY_S = 30.0
NO_BUCKET = "NoSuchBucket"  # the code of S3, OSS and Google


class NoObject(Exception):
    """There is no object under this key."""


class Objects:
    """The objects under one folder or one prefix of a bucket. Raises StorageFailed."""

    def __init__(
        self, store: ObjectStore, folder: Path | None = None, *, is_ours: bool = True
    ) -> None:
        """`folder` is where the store keeps its files, if it keeps them in a folder.

        Others' storage is only read, and has no marker.
        """
        self._store, self._folder, self._is_ours = store, folder, is_ours

    async def mark(self, identity: str, *, is_new: bool) -> bool:
        """Whether the storage is that of the database which has this identity.

        Its marker says so, an object by which it is known later whether the storage itself is
        there. It is written where the database `is_new`: without jobs it can miss none.
        """
        with _our_errors():
            try:
                answer = await obstore.get_async(self._store, MARKER)
                return bytes(await answer.bytes_async()) == identity.encode()
            except (NotFoundError, FileNotFoundError):
                if is_new:
                    await obstore.put_async(self._store, MARKER, identity.encode())
                return is_new

    async def put(self, key: str, data: bytes) -> None:
        self._check_folder()
        with _our_errors(writes=True):
            await obstore.put_async(self._store, key, data)

    async def put_file(self, key: str, file: BinaryIO) -> None:
        """Stores an open file from its beginning, piece by piece."""
        self._check_folder()
        file.seek(0)
        with _our_errors(writes=True):
            await obstore.put_async(
                self._store, key, file, chunk_size=PIECE_BYTES, max_concurrency=PIECES_AT_ONCE
            )

    async def get(self, key: str) -> bytes:
        """The whole object. Raises NoObject."""
        async with self._found():
            answer = await obstore.get_async(self._store, key)
            return bytes(await answer.bytes_async())

    async def get_range(self, key: str, start: int, end: int) -> bytes:
        """The bytes from `start` up to `end`. Raises NoObject."""
        async with self._found():
            return bytes(await obstore.get_range_async(self._store, key, start=start, end=end))

    async def size(self, key: str) -> int:
        """Raises NoObject."""
        async with self._found():
            return int((await obstore.head_async(self._store, key))["size"])

    async def pieces(self, key: str, start: int, end: int) -> AsyncIterator[bytes]:
        """The bytes from `start` up to `end`, in pieces of bounded size. Raises NoObject."""
        for first in range(start, end, PIECE_BYTES):
            yield await self.get_range(key, first, min(end, first + PIECE_BYTES))

    async def open(self, key: str, spare: BinaryIO) -> BinaryIO:
        """The object as a local file. `spare` receives it unless it is one. Raises NoObject."""
        if self._folder is not None:
            async with self._found():
                return await asyncio.to_thread((self._folder / key).open, "rb")
        async for piece in self.pieces(key, 0, await self.size(key)):
            spare.write(piece)
        spare.flush()
        return spare

    async def keys(self, prefix: str) -> AsyncIterator[list[str]]:
        """All keys under the prefix, page by page."""
        with _our_errors():
            async for page in obstore.list(self._store, prefix=prefix):
                yield [entry["path"] for entry in page]

    async def folders(self, prefix: str) -> AsyncIterator[set[str]]:
        """The names that lie directly under the prefix, page by page.

        In a folder also those that hold nothing but what a killed process began to write.
        """
        if self._folder is not None:
            folder = self._folder / prefix
            yield {path.name for path in folder.iterdir()} if folder.is_dir() else set()
            return
        async for page in self.keys(prefix):
            yield {key.removeprefix(f"{prefix}/").split("/", 1)[0] for key in page}

    async def delete(self, prefix: str) -> None:
        """Removes every object under the prefix, and what a killed process began to write there."""
        if self._folder is not None:
            await asyncio.to_thread(shutil.rmtree, self._folder / prefix, ignore_errors=True)
            return
        async for page in self.keys(prefix):
            with _our_errors():
                await obstore.delete_async(self._store, page)

    def _check_folder(self) -> None:
        """Raises StorageFailed where the folder is not there, as when no disk is mounted."""
        if self._folder is not None and not (self._folder / MARKER).exists():
            raise StorageFailed(RETRY_S)

    @asynccontextmanager
    async def _found(self) -> AsyncIterator[None]:
        """Raises NoObject only while the storage is there.

        A folder that is not mounted, or a bucket that was renamed, holds no object either.
        """
        try:
            with _our_errors():
                yield
        except NoObject:
            if not self._is_ours:
                raise
            try:
                with _our_errors():
                    await obstore.head_async(self._store, MARKER)
            except NoObject:
                raise StorageFailed(RETRY_S) from None
            raise


async def transcript_of(objects: Objects, job: str, number: int, file: Json) -> Transcript:
    """The transcript of a file that is completed. Raises Conflict for any other."""
    if file["state"] == FAILED:
        raise Conflict(f"The file failed: {file['error']}")
    if file["state"] == CANCELED:
        raise Conflict("The job was canceled.")
    if file["state"] != COMPLETED:
        raise Conflict("The file is not finished yet.")
    try:
        return from_detailed(json.loads(await objects.get(result_key(job, number))))
    except NoObject:
        raise UnknownJob("the result") from None


@contextmanager
def _our_errors(*, writes: bool = False) -> Iterator[None]:
    """Raises NoObject and StorageFailed. A bucket that is missing is a failure of the storage."""
    try:
        yield
    except (NotFoundError, FileNotFoundError) as error:
        if writes or NO_BUCKET in str(error):
            raise StorageFailed(RETRY_S) from error
        raise NoObject(str(error)) from None
    except (BaseError, OSError) as error:
        raise StorageFailed(RETRY_S) from error


def open_objects(storage: Storage) -> Objects:
    """The objects of the service: in the bucket of the configuration, or in its folder of data."""
    if storage.objects_url is not None:
        return bucket_objects(storage.objects_url)
    return folder_objects(data_dir(storage) / FOLDER)


def folder_objects(folder: Path) -> Objects:
    """The objects of a folder, which is made where it does not exist."""
    folder.mkdir(parents=True, exist_ok=True)
    return Objects(LocalStore(folder, mkdir=True), folder)


def bucket_objects(
    url: str, environ: Mapping[str, str] = os.environ, *, is_ours: bool = True
) -> Objects:
    """The objects of `s3://BUCKET/PREFIX`, `oss://...` or `gs://...`. Raises ValueError.

    Keys and endpoints come from the environment: `AWS_*` for S3, `OSS_*` for Aliyun's OSS and
    `GOOGLE_*` for Google, as in the tools of these services.
    """
    parts = urlsplit(url)
    prefix = parts.path.strip("/") or None
    if not parts.netloc or parts.scheme not in STORES:
        raise ValueError(f"objects are kept at s3://, oss:// or gs://, not at {url!r}")
    return Objects(STORES[parts.scheme](parts.netloc, prefix, environ), is_ours=is_ours)


def _s3(bucket: str, prefix: str | None, environ: Mapping[str, str]) -> ObjectStore:
    plain = environ.get("AWS_ENDPOINT_URL", environ.get("AWS_ENDPOINT", ""))
    options: dict[str, Any] = {"endpoint": plain} if plain else {}
    return S3Store(
        bucket,
        prefix=prefix,
        region=environ.get("AWS_REGION", environ.get("AWS_DEFAULT_REGION", "us-east-1")),
        client_options={"allow_http": plain.startswith("http:")},
        **options,
    )


def _oss(bucket: str, prefix: str | None, environ: Mapping[str, str]) -> ObjectStore:
    """OSS speaks S3, with the bucket in the host, and without deleting many objects at once."""
    region = environ.get("OSS_REGION", "cn-hangzhou")
    host = environ.get("OSS_ENDPOINT", f"oss-{region}.aliyuncs.com").removeprefix("https://")
    return S3Store(
        bucket,
        prefix=prefix,
        endpoint=f"https://{bucket}.{host}",
        region=region,
        access_key_id=environ.get("OSS_ACCESS_KEY_ID", ""),
        secret_access_key=environ.get("OSS_ACCESS_KEY_SECRET", ""),
        virtual_hosted_style_request=True,
        disable_bulk_delete=True,
    )


def _gs(bucket: str, prefix: str | None, environ: Mapping[str, str]) -> ObjectStore:
    return GCSStore(bucket, prefix=prefix)


STORES = {"s3": _s3, "oss": _oss, "gs": _gs}
