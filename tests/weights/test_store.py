from __future__ import annotations

import errno
import json
import multiprocessing
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from deployments.core.errors import ModelUnavailable
from deployments.weights.download import disk_errors
from deployments.weights.settings import Endpoints, Limits
from deployments.weights.sources import DiskFull, Model, Progress, Weights
from deployments.weights.store import ensure, is_cached
from deployments.weights.verify import LOCK_NAME
from tests.weights.fake_hub import FakeHub
from tests.weights.samples import (
    CHECKPOINT_BYTES,
    CONTENTS,
    MODELSCOPE,
    REPO,
    catalog_of,
    quick_limits,
    sha256,
    tiny_model,
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


def write_model(directory: Path, **contents: bytes) -> Path:
    directory.mkdir(parents=True)
    for name, content in contents.items():
        (directory / name.replace("__", ".")).write_bytes(content)
    return directory


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


def _child(cache: Path, endpoints: Endpoints, started: Any, told: Any, waiting: Any) -> None:
    """Runs `ensure` in another process; says when bytes are written, or others are waited for."""

    def on_progress(progress: Progress) -> None:
        event = started if progress.done_bytes else waiting
        event.set()

    weights = ensure(
        MODEL.name,
        cache_dir=cache,
        catalog=catalog_of(MODEL),
        endpoints=endpoints,
        limits=replace(quick_limits(), stall_s=20.0),
        on_progress=on_progress,
    )
    told.put(weights)


def test_two_processes_that_ask_at_once_download_once(hub: FakeHub, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    told = context.Queue()
    started, waiting = context.Event(), context.Event()
    arguments = (tmp_path, hub.endpoints, started, told, waiting)
    first, second = (context.Process(target=_child, args=arguments) for _ in range(2))
    hub.stall_after = 2_000_000

    first.start()
    second.start()
    assert started.wait(30)
    assert waiting.wait(30)  # one downloads and is held up, the other waits for it
    hub.stall_after = None
    hub.released.set()
    answers = [told.get(timeout=30), told.get(timeout=30)]
    first.join(30)
    second.join(30)

    assert answers[0] == answers[1]
    assert sum(seen.n_bytes for seen in hub.content_requests("model.pt")) == CHECKPOINT_BYTES
    assert len(hub.content_requests("config.yaml")) == 1


def test_a_process_killed_midway_leaves_nothing_that_is_taken_for_good(
    hub: FakeHub, tmp_path: Path
) -> None:
    context = multiprocessing.get_context("spawn")
    started, waiting, told = context.Event(), context.Event(), context.Queue()
    arguments = (tmp_path, hub.endpoints, started, told, waiting)
    child = context.Process(target=_child, args=arguments)
    hub.stall_after = 2_000_000
    child.start()
    assert started.wait(30)

    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    child.join(30)
    killed_is_cached = is_cached(MODEL.name, tmp_path, catalog=catalog_of(MODEL))
    hub.stall_after = None
    weights = get(tmp_path, hub.endpoints)

    assert not killed_is_cached
    assert (weights.path / "model.pt").read_bytes() == CONTENTS["model.pt"]
    last = hub.content_requests("model.pt")[-1]
    assert last.range is not None  # the killed run's bytes were not thrown away
    assert last.n_bytes < CHECKPOINT_BYTES


CHECKPOINT = {"model__pt": b"\x80", "am__mvn": CONTENTS["am.mvn"], "tokens__json": b"[]"}


@pytest.mark.parametrize(
    ("funasr_class", "family", "stage"),
    [
        ("SeacoParaformer", "paraformer", "asr"),
        ("BiCifParaformer", "paraformer-bicif", "asr"),
        ("FsmnVADStreaming", "fsmn-vad", "vad"),
        ("CTTransformer", "ct-transformer", "punctuation"),
    ],
)
def test_a_directory_is_known_by_its_config(
    tmp_path: Path, funasr_class: str, family: str, stage: str
) -> None:
    config = f"model: {funasr_class}\n".encode()
    directory = write_model(tmp_path / "mine", config__yaml=config, **CHECKPOINT)

    weights = ensure(str(directory))

    assert weights == Weights("mine", family, stage, directory, "directory")
    assert is_cached(str(directory))


def test_directories_of_whisper_are_known_by_their_files(tmp_path: Path) -> None:
    onnx = write_model(
        tmp_path / "onnx",
        config__json=b'{"model_type": "whisper"}',
        tokenizer__json=b"{}",
        encoder__onnx=b"x",
    )
    cpp = write_model(tmp_path / "cpp", **{"ggml-tiny__bin": b"lmgg"})

    families = [ensure(str(onnx)).family, ensure(str(cpp)).family]

    assert families == ["whisper-onnx", "whisper-cpp"]


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        ({"config__yaml": b"model: SenseVoiceSmall\n"}, "says model: SenseVoiceSmall"),
        ({"config__yaml": b"model: CTTransformer\n"}, r"model\.pt is missing; tokens\.json"),
        ({"config__yaml": b"model: CTTransformer\n", "model__pt": b""}, r"model\.pt is empty"),
        ({"README__md": b"hello"}, "holds no model that is known"),
    ],
)
def test_a_directory_that_is_no_model_is_refused_with_the_reason(
    tmp_path: Path, contents: dict[str, bytes], message: str
) -> None:
    directory = write_model(tmp_path / "mine", **contents)

    with pytest.raises(ModelUnavailable, match=message):
        ensure(str(directory))


@pytest.mark.parametrize("stage", ["asr", "vad", "punctuation"])
def test_fake_models_need_no_weights(stage: str) -> None:
    weights = ensure(f"fake:{stage}")

    assert (weights.family, weights.stage, weights.path) == (f"fake-{stage}", stage, Path("."))


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ModelUnavailable, match="fsmn-vad, paraformer-zh"):
        ensure("parafromer-zh")
