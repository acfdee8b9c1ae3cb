"""The cache of models: downloads, files placed by hand, and damage."""

from __future__ import annotations

import errno
import json
from dataclasses import replace
from pathlib import Path

import pytest

from deployments.core.errors import ModelUnavailable
from deployments.weights.download import disk_errors
from deployments.weights.settings import Endpoints, Limits
from deployments.weights.sources import DiskFull, Model, Weights
from deployments.weights.store import ensure, is_cached
from deployments.weights.verify import LOCK_NAME
from tests.weights.fake_hub import FakeHub
from tests.weights.samples import (
    CONTENTS,
    MODELSCOPE,
    REPO,
    catalog_of,
    quick_limits,
    sha256,
    tiny_model,
    write_model,
)

MODEL = tiny_model(MODELSCOPE)

NO_HUB = Endpoints(modelscope="http://127.0.0.1:9", hugging_face="http://127.0.0.1:9")


def get(
    cache: Path,
    endpoints: Endpoints,
    *,
    model: Model = MODEL,
    offline: bool = False,
    limits: Limits | None = None,
) -> Weights:
    return ensure(
        model.name,
        cache_dir=cache,
        offline=offline,
        catalog=catalog_of(model),
        endpoints=endpoints,
        limits=limits or quick_limits(),
    )


def test_a_model_is_downloaded_once_and_then_comes_from_the_cache(
    hub: FakeHub, tmp_path: Path
) -> None:
    first = get(tmp_path, hub.endpoints)
    n_requests = len(hub.asked)

    second = get(tmp_path, NO_HUB, offline=True)

    assert second == first
    assert len(hub.asked) == n_requests


def test_offline_without_a_cache_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match=r"downloads are off.*weights fetch tiny-vad"):
        get(tmp_path, NO_HUB, offline=True)


def test_a_cached_file_that_lost_bytes_is_downloaded_again(hub: FakeHub, tmp_path: Path) -> None:
    path = get(tmp_path, hub.endpoints).path
    (path / "model.pt").write_bytes(b"\x80")

    assert not is_cached(MODEL.name, tmp_path, catalog=catalog_of(MODEL))
    get(tmp_path, hub.endpoints)

    assert (path / "model.pt").read_bytes() == CONTENTS["model.pt"]


def test_a_damaged_cache_is_not_used_offline(hub: FakeHub, tmp_path: Path) -> None:
    path = get(tmp_path, hub.endpoints).path
    (path / "am.mvn").unlink()

    with pytest.raises(ModelUnavailable, match="downloads are off"):
        get(tmp_path, NO_HUB, offline=True)


def test_a_cached_file_with_another_hash_than_a_new_pin_is_downloaded_again(
    hub: FakeHub, tmp_path: Path
) -> None:
    get(tmp_path, hub.endpoints, model=tiny_model(MODELSCOPE, pinned=False))
    new_config = b"model: FsmnVADStreaming # second edition\n"
    hub.repos[REPO]["config.yaml"] = new_config
    files = tuple(
        replace(file, sha256=(sha256(new_config),), n_bytes=None)
        if file.path == "config.yaml"
        else file
        for file in MODEL.files
    )

    weights = get(tmp_path, hub.endpoints, model=replace(MODEL, files=files))

    assert (weights.path / "config.yaml").read_bytes() == new_config


@pytest.mark.parametrize("pinned", [True, False])
def test_files_placed_by_hand_are_taken_without_a_network(tmp_path: Path, pinned: bool) -> None:
    model = tiny_model(MODELSCOPE, pinned=pinned)
    directory = write_model(tmp_path / "models" / "tiny-vad", **CONTENTS)

    weights = get(tmp_path, NO_HUB, model=model, offline=True)

    assert (weights.path, weights.source) == (directory, "placed by hand")
    assert is_cached(model.name, tmp_path, catalog=catalog_of(model))


def test_wrong_files_placed_by_hand_are_refused_and_left_alone(
    hub: FakeHub, tmp_path: Path
) -> None:
    wrong = {**CONTENTS, "model.pt": b"\x80 fine-tuned"}
    directory = write_model(tmp_path / "models" / "tiny-vad", **wrong)

    with pytest.raises(ModelUnavailable, match=r"model\.pt has SHA-256 .*Remove the directory"):
        get(tmp_path, hub.endpoints)

    assert (directory / "model.pt").read_bytes() == b"\x80 fine-tuned"
    assert hub.asked == []


def test_what_a_killed_run_left_beside_the_files_is_not_published(
    hub: FakeHub, tmp_path: Path
) -> None:
    write_model(tmp_path / ".partial" / "tiny-vad" / "0" / "package-x", left__whl=b"half a wheel")

    path = get(tmp_path, hub.endpoints).path

    assert {file.name for file in path.iterdir()} == {*CONTENTS, LOCK_NAME}


def test_the_first_download_is_recorded_with_its_hashes(hub: FakeHub, tmp_path: Path) -> None:
    path = get(tmp_path, hub.endpoints, model=tiny_model(MODELSCOPE, pinned=False)).path

    record = json.loads((path / LOCK_NAME).read_text(encoding="utf-8"))

    assert record["source"] == str(MODELSCOPE)
    assert {file["path"]: file["sha256"] for file in record["files"]} == {
        name: sha256(content) for name, content in CONTENTS.items()
    }


def test_a_disk_without_room_is_told_before_the_download(hub: FakeHub, tmp_path: Path) -> None:
    limits = replace(quick_limits(), free_bytes=lambda path: 1_000_000)

    with pytest.raises(ModelUnavailable, match="1 MB free, 3 MB are needed"):
        get(tmp_path, hub.endpoints, limits=limits)

    assert hub.asked == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_fills_up_midway_is_named(tmp_path: Path, number: int) -> None:
    with pytest.raises(DiskFull, match=str(tmp_path)), disk_errors(tmp_path):
        raise OSError(number, "no room")


def test_a_cache_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(ModelUnavailable, match="cannot be used"):
        get(tmp_path / "file" / "cache", NO_HUB)
