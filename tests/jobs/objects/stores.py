"""A server of S3 for tests: moto's, where it is installed. Nothing leaves loopback."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest

from benchmarks.machine import free_port
from benchmarks.material.marked import marked_folder
from deployments.objects import Objects, bucket_objects

T = TypeVar("T")

KEY = "jobs/job_1/0/audio"
NUMBERS = count()
PROGRAM = shutil.which("moto_server")
KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1"}


@contextmanager
def s3() -> Iterator[str]:
    """The URL of the server."""
    assert PROGRAM is not None
    port = free_port()
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(
        [PROGRAM, "-H", "127.0.0.1", "-p", str(port)], stdout=quiet, stderr=quiet
    )
    url = f"http://127.0.0.1:{port}"
    with process:
        try:
            _await(url)
            yield url
        finally:
            process.terminate()


def make_bucket(url: str, name: str) -> None:
    httpx.put(f"{url}/{name}", trust_env=False).raise_for_status()


def _await(url: str) -> None:
    until_s = time.monotonic() + 60
    while True:
        try:
            httpx.get(url, trust_env=False, timeout=5)
            return
        except httpx.TransportError:
            assert time.monotonic() < until_s, "moto_server does not start"
            time.sleep(0.1)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    with s3() as url:
        yield url


@pytest.fixture
def bucket(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Objects]:
    """The objects of a URL, at the server."""
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("no_proxy", "*")
    return lambda url: bucket_objects(url, {**os.environ, "AWS_ENDPOINT_URL": s3_server})


NO_MOTO = pytest.mark.skipif(
    PROGRAM is None, reason="moto is not installed: pip install moto[server]"
)
KINDS = ["folder", pytest.param("s3", marks=[NO_MOTO, pytest.mark.slow])]


@pytest.fixture(params=KINDS)
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> Objects:
    if request.param == "folder":
        return marked_folder(tmp_path / "objects")
    name = f"bucket-{next(NUMBERS)}"
    make_bucket(request.getfixturevalue("s3_server"), name)
    of_url: Callable[[str], Objects] = request.getfixturevalue("bucket")
    made = of_url(f"s3://{name}/some/prefix")
    assert run(made.mark("this", is_new=True))
    return made


def run(work: Awaitable[T]) -> T:
    async def wait() -> T:
        return await work

    return asyncio.run(wait())


async def all_of(pieces: AsyncIterator[Any]) -> list[Any]:
    return [piece async for piece in pieces]


async def keys_of(objects: Objects, prefix: str) -> set[str]:
    return {key for page in await all_of(objects.keys(prefix)) for key in page}
