"""What of the storage fails, and how soon that is told; and where objects are kept at all."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from benchmarks.material.marked import marked_folder
from deployments.core.errors import StorageFailed
from deployments.objects import (
    PIECE_BYTES,
    STORES,
    Objects,
    bucket_objects,
    open_objects,
)
from deployments.service_settings import Storage
from tests.jobs.objects.stores import KEY, KEYS, NO_MOTO, keys_of, make_bucket, run


def test_a_key_below_an_object_cannot_be_stored_in_a_folder(tmp_path: Path) -> None:
    objects = marked_folder(tmp_path)
    run(objects.put("jobs", b"a file where a folder should be"))

    with pytest.raises(StorageFailed):
        run(objects.put(KEY, b"sound"))


FULL = """
import asyncio, io, signal, resource, sys
from pathlib import Path
from deployments.core.errors import StorageFailed
from benchmarks.material.marked import marked_folder
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
objects = marked_folder(Path(sys.argv[1]))
for work in (objects.put("jobs/a", bytes(2_000_000)),
             objects.put_file("jobs/b", io.BytesIO(bytes(20_000_000)))):
    try:
        asyncio.run(work)
    except StorageFailed as error:
        print(error.retry_after_s)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="POSIX only")
def test_a_disk_that_takes_no_more_is_told_and_leaves_no_half_object(tmp_path: Path) -> None:
    folder = tmp_path / "objects"

    ran = subprocess.run(
        [sys.executable, "-c", FULL, str(folder)], capture_output=True, text=True, check=True
    )

    assert ran.stdout.split() == ["30.0", "30.0"]
    assert run(keys_of(marked_folder(folder), "jobs")) == set()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_told(tmp_path: Path) -> None:
    objects = marked_folder(tmp_path / "objects")
    (tmp_path / "objects").chmod(0o500)

    with pytest.raises(StorageFailed):
        run(objects.put(KEY, b"sound"))


@NO_MOTO
@pytest.mark.slow
def test_a_bucket_that_is_not_there_is_a_failure_of_the_storage(
    bucket: Callable[[str], Objects],
) -> None:
    objects = bucket("s3://there-is-none/prefix")

    with pytest.raises(StorageFailed):
        run(objects.put(KEY, b"sound"))
    with pytest.raises(StorageFailed):
        run(objects.put_file(KEY, BytesIO(bytes(PIECE_BYTES + 1))))
    with pytest.raises(StorageFailed):
        run(objects.get(KEY))


@pytest.mark.slow
def test_a_server_that_is_not_there_is_told_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    objects = bucket_objects("s3://calls", {**os.environ, "AWS_ENDPOINT_URL": "http://127.0.0.1:9"})

    began_s = time.monotonic()
    with pytest.raises(StorageFailed):
        run(objects.put(KEY, b"sound"))

    assert time.monotonic() < began_s + 30


@NO_MOTO
@pytest.mark.slow
def test_prefixes_of_one_bucket_do_not_see_each_other(
    s3_server: str, bucket: Callable[[str], Objects]
) -> None:
    make_bucket(s3_server, "shared")
    one, two = bucket("s3://shared/one"), bucket("s3://shared/two/")
    run(one.put(KEY, b"1"))
    run(two.put(KEY, b"2"))

    run(one.delete("jobs"))

    assert run(two.get(KEY)) == b"2"
    assert run(keys_of(one, "jobs")) == set()


@pytest.mark.parametrize("url", ["file:///tmp/x", "s3://", "https://bucket/x", "/tmp/x", ""])
def test_another_url_names_no_objects(url: str) -> None:
    with pytest.raises(ValueError, match="objects are kept at"):
        bucket_objects(url, {})


def test_the_configuration_says_where_objects_are(tmp_path: Path) -> None:
    objects = open_objects(Storage(data_dir=tmp_path))
    run(objects.mark("this", is_new=True))

    run(objects.put(KEY, b"sound"))

    assert (tmp_path / "objects" / KEY).read_bytes() == b"sound"


def test_oss_is_asked_by_the_name_of_its_bucket() -> None:
    environ = {"OSS_REGION": "cn-shanghai", "OSS_ACCESS_KEY_ID": "i", "OSS_ACCESS_KEY_SECRET": "s"}

    store: Any = STORES["oss"]("calls", "a/b", environ)

    assert store.config["endpoint"] == "https://calls.oss-cn-shanghai.aliyuncs.com"
    assert store.prefix == "a/b"
