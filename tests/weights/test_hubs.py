"""Downloads from both hubs: their URLs, the next source, progress, and which hubs answer."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from deployments.core.errors import ModelUnavailable
from deployments.weights.settings import Endpoints
from deployments.weights.sources import Source, WantedFile
from deployments.weights.store import ensure, probe_hubs
from tests.weights.fake_hub import COMMIT, FakeHub
from tests.weights.fetching import fetch, left_over
from tests.weights.samples import (
    BOTH,
    CHECKPOINT_BYTES,
    CONTENTS,
    HUGGING_FACE,
    MODELSCOPE,
    REPO,
    catalog_of,
    quick_limits,
    tiny_model,
)


@BOTH
@pytest.mark.parametrize("pinned", [True, False])
def test_a_hub_gives_the_files_byte_for_byte(
    hub: FakeHub, tmp_path: Path, source: Source, pinned: bool
) -> None:
    weights = fetch(tiny_model(source, pinned=pinned), tmp_path, hub)

    found = {name: (weights.path / name).read_bytes() for name in CONTENTS}
    assert found == CONTENTS
    assert weights.source == str(source)
    assert left_over(tmp_path) == []


def test_modelscope_is_asked_with_its_own_url_shapes(hub: FakeHub, tmp_path: Path) -> None:
    fetch(tiny_model(MODELSCOPE), tmp_path, hub)

    base = f"/api/v1/models/{REPO}/repo"
    assert hub.asked[0] == f"{base}/files?Revision=v2.0.4&Recursive=true"
    assert hub.asked[-1] == f"{base}?Revision=v2.0.4&FilePath=model.pt"


def test_hugging_face_is_asked_at_one_commit_and_followed_to_its_cdn(
    hub: FakeHub, tmp_path: Path
) -> None:
    fetch(tiny_model(HUGGING_FACE), tmp_path, hub)

    assert hub.asked == [
        f"/api/models/{REPO}/revision/main?blobs=true",
        f"/{REPO}/resolve/{COMMIT}/config.yaml",
        f"/{REPO}/resolve/{COMMIT}/am.mvn",
        f"/{REPO}/resolve/{COMMIT}/model.pt",
        f"/cdn/{REPO}/model.pt",
    ]


@pytest.mark.parametrize("statuses", [[503, 429], [403], [403, 403], [500, 403], [502]])
def test_a_busy_hub_is_asked_again(hub: FakeHub, tmp_path: Path, statuses: list[int]) -> None:
    hub.statuses = list(statuses)

    weights = fetch(tiny_model(MODELSCOPE), tmp_path, hub)

    assert weights.source == str(MODELSCOPE)


@pytest.mark.parametrize("statuses", [[404], [401], [403, 403, 403], [500, 500, 500]])
def test_a_hub_that_refuses_gives_way_to_the_next_source(
    hub: FakeHub, tmp_path: Path, statuses: list[int]
) -> None:
    hub.statuses = statuses

    weights = fetch(tiny_model(MODELSCOPE, HUGGING_FACE), tmp_path, hub)

    assert weights.source == str(HUGGING_FACE)


def test_a_repository_without_a_wanted_file_gives_way_to_the_next_source(
    hub: FakeHub, tmp_path: Path
) -> None:
    hub.repos["iic/other"] = dict(CONTENTS)
    del hub.repos[REPO]["am.mvn"]
    elsewhere = type(HUGGING_FACE)("iic/other", "main")

    weights = fetch(tiny_model(MODELSCOPE, elsewhere), tmp_path, hub)

    assert weights.source == str(elsewhere)


def test_the_error_names_every_source_its_reason_and_the_remedy(
    hub: FakeHub, tmp_path: Path
) -> None:
    del hub.repos[REPO]
    closed = Endpoints(modelscope=hub.url, hugging_face="http://127.0.0.1:9")
    model = tiny_model(MODELSCOPE, HUGGING_FACE)

    with pytest.raises(ModelUnavailable) as caught:
        ensure(
            model.name,
            cache_dir=tmp_path,
            catalog=catalog_of(model),
            endpoints=closed,
            limits=quick_limits(),
        )

    text = str(caught.value)
    assert f"{MODELSCOPE}: HTTP 404" in text
    assert f"{HUGGING_FACE}: ConnectError" in text
    assert "python -m deployments.weights fetch tiny-vad" in text
    assert str(tmp_path / "models" / "tiny-vad") in text
    assert "HF_ENDPOINT" in text


def test_an_optional_file_is_taken_where_it_is_and_not_missed_where_it_is_not(
    hub: FakeHub, tmp_path: Path
) -> None:
    plain = tiny_model(MODELSCOPE)
    model = replace(plain, files=(*plain.files, WantedFile("jieba_usr_dict", optional=True)))
    hub.repos["iic/with_dict"] = {**CONTENTS, "jieba_usr_dict": b"words"}
    other = type(MODELSCOPE)("iic/with_dict", "v1")

    without = fetch(model, tmp_path / "a", hub)
    with_dict = fetch(replace(model, sources=(other,)), tmp_path / "b", hub)

    assert not (without.path / "jieba_usr_dict").exists()
    assert (with_dict.path / "jieba_usr_dict").read_bytes() == b"words"


def test_progress_is_told_up_to_the_whole_of_each_file(hub: FakeHub, tmp_path: Path) -> None:
    told: list[tuple[str, int, int | None]] = []

    fetch(
        tiny_model(MODELSCOPE),
        tmp_path,
        hub,
        lambda progress: told.append((progress.file, progress.done_bytes, progress.total_bytes)),
    )

    assert ("model.pt", CHECKPOINT_BYTES, CHECKPOINT_BYTES) in told
    assert len([entry for entry in told if entry[0] == "model.pt"]) > 3


def test_hubs_that_answer_are_named(hub: FakeHub) -> None:
    hub.repos["iic/speech_fsmn_vad_zh-cn-16k-common-pytorch"] = {}
    endpoints = Endpoints(modelscope=hub.url, hugging_face="http://127.0.0.1:9")

    assert probe_hubs(endpoints=endpoints) == ["modelscope"]


def _drip(listener: socket.socket) -> None:
    """Answers one connection with a byte every 50 ms, until the client hangs up."""
    connection, _ = listener.accept()
    with connection, contextlib.suppress(OSError):
        connection.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        for _ in range(40):
            connection.sendall(b"a")
            time.sleep(0.05)


def test_a_hub_that_answers_too_slowly_costs_no_more_than_the_time_given() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=_drip, args=(listener,), daemon=True).start()
        slow = Endpoints(f"http://127.0.0.1:{listener.getsockname()[1]}", "http://127.0.0.1:9")
        begin_s = time.monotonic()

        found = probe_hubs(0.3, endpoints=slow)

        assert found == []
        assert time.monotonic() - begin_s < 1.0
