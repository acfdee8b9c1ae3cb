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
from deployments.weights.sources import Model, Source, WantedFile, Weights
from deployments.weights.store import OnProgress, ensure, is_cached, probe_hubs
from tests.weights.fake_hub import COMMIT, FakeHub, serving
from tests.weights.samples import (
    CHECKPOINT_BYTES,
    CONTENTS,
    HUGGING_FACE,
    MODELSCOPE,
    REPO,
    catalog_of,
    quick_limits,
    sha256,
    tiny_model,
)

BOTH = pytest.mark.parametrize("source", [MODELSCOPE, HUGGING_FACE], ids=["modelscope", "hf"])


def fetch(
    model: Model, cache: Path, hub: FakeHub, on_progress: OnProgress | None = None
) -> Weights:
    return ensure(
        model.name,
        cache_dir=cache,
        catalog=catalog_of(model),
        endpoints=hub.endpoints,
        limits=quick_limits(),
        on_progress=on_progress,
    )


def left_over(cache: Path) -> list[str]:
    """The names of all files in the cache that belong to no finished model."""
    return [path.name for path in (cache / ".partial").rglob("*") if path.is_file()]


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
    assert hub.asked[1] == f"{base}?Revision=v2.0.4&FilePath=model.pt"


def test_hugging_face_is_asked_at_one_commit_and_followed_to_its_cdn(
    hub: FakeHub, tmp_path: Path
) -> None:
    fetch(tiny_model(HUGGING_FACE), tmp_path, hub)

    assert hub.asked[:4] == [
        f"/api/models/{REPO}/revision/main?blobs=true",
        f"/{REPO}/resolve/{COMMIT}/model.pt",
        f"/cdn/{REPO}/model.pt",
        f"/{REPO}/resolve/{COMMIT}/config.yaml",
    ]


@BOTH
def test_a_cut_download_goes_on_where_it_stopped(
    hub: FakeHub, tmp_path: Path, source: Source
) -> None:
    hub.cut_after = [1_000_000, 500_000]

    weights = fetch(tiny_model(source), tmp_path, hub)

    requests = hub.content_requests("model.pt")
    assert [seen.range for seen in requests] == [None, "bytes=1000000-", "bytes=1500000-"]
    assert [seen.n_bytes for seen in requests] == [1_000_000, 500_000, 1_500_000]
    assert (weights.path / "model.pt").read_bytes() == CONTENTS["model.pt"]


def test_a_cut_is_noticed_where_only_the_listing_tells_the_length(
    hub: FakeHub, tmp_path: Path
) -> None:
    hub.cut_after = [1_000_000]
    hub.says_length = False

    fetch(tiny_model(MODELSCOPE), tmp_path, hub)

    requests = hub.content_requests("model.pt")
    assert [seen.range for seen in requests] == [None, "bytes=1000000-"]


def test_a_hub_that_cannot_resume_sends_the_whole_file_again(hub: FakeHub, tmp_path: Path) -> None:
    hub.cut_after = [1_000_000]
    hub.resumes = False

    weights = fetch(tiny_model(MODELSCOPE), tmp_path, hub)

    requests = hub.content_requests("model.pt")
    assert [seen.n_bytes for seen in requests] == [1_000_000, CHECKPOINT_BYTES]
    assert (weights.path / "model.pt").read_bytes() == CONTENTS["model.pt"]


def test_a_download_that_is_cut_again_and_again_ends_and_is_resumed_by_the_next_run(
    hub: FakeHub, tmp_path: Path
) -> None:
    model = tiny_model(MODELSCOPE)
    hub.cut_after = [1000, 1000, 1000]

    with pytest.raises(ModelUnavailable, match=r"model\.pt: .*RemoteProtocolError"):
        fetch(model, tmp_path, hub)
    weights = fetch(model, tmp_path, hub)

    assert hub.content_requests("model.pt")[-1].range == "bytes=3000-"
    assert (weights.path / "model.pt").read_bytes() == CONTENTS["model.pt"]


def test_what_an_earlier_run_left_is_thrown_away_when_it_leads_to_a_wrong_hash(
    hub: FakeHub, tmp_path: Path
) -> None:
    part = tmp_path / ".partial" / "tiny-vad" / "0" / "model.pt.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"something else")

    weights = fetch(tiny_model(MODELSCOPE), tmp_path, hub)

    assert [seen.range for seen in hub.content_requests("model.pt")] == ["bytes=14-", None]
    assert (weights.path / "model.pt").read_bytes() == CONTENTS["model.pt"]


@pytest.mark.slow
def test_a_stalled_connection_is_given_up_and_the_next_source_is_asked(
    hub: FakeHub, tmp_path: Path
) -> None:
    with serving(FakeHub(repos={REPO: dict(CONTENTS)}, stall_after=1000)) as stalling:
        endpoints = Endpoints(modelscope=stalling.url, hugging_face=hub.url)
        model = tiny_model(MODELSCOPE, HUGGING_FACE)
        begin_s = time.monotonic()

        weights = ensure(
            model.name,
            cache_dir=tmp_path,
            catalog=catalog_of(model),
            endpoints=endpoints,
            limits=quick_limits(),
        )

    assert weights.source == str(HUGGING_FACE)
    assert time.monotonic() - begin_s < 10


def test_a_busy_hub_is_asked_again(hub: FakeHub, tmp_path: Path) -> None:
    hub.statuses = [503, 429]

    weights = fetch(tiny_model(MODELSCOPE), tmp_path, hub)

    assert weights.source == str(MODELSCOPE)


@pytest.mark.parametrize("statuses", [[404], [403], [500, 500, 500]])
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


@BOTH
def test_a_checkpoint_announced_with_another_hash_is_refused_before_its_first_byte(
    hub: FakeHub, tmp_path: Path, source: Source
) -> None:
    hub.repos[REPO]["model.pt"] = b"\x80" + bytes(CHECKPOINT_BYTES - 1)

    with pytest.raises(ModelUnavailable, match=sha256(CONTENTS["model.pt"])):
        fetch(tiny_model(source), tmp_path, hub)

    assert hub.content_requests("model.pt") == []


@BOTH
@pytest.mark.parametrize("pinned", [True, False])
def test_a_content_with_a_wrong_hash_is_refused_and_removed(
    hub: FakeHub, tmp_path: Path, source: Source, pinned: bool
) -> None:
    # The hub announces the good file and sends another of the same size.
    hub.announced_sha256 = sha256(CONTENTS["model.pt"])
    hub.repos[REPO] = {**CONTENTS, "model.pt": b"\x80" + bytes(CHECKPOINT_BYTES - 1)}
    model = tiny_model(source, pinned=pinned)

    with pytest.raises(ModelUnavailable, match="is not the expected"):
        fetch(model, tmp_path, hub)

    assert left_over(tmp_path) == []
    assert not is_cached(model.name, tmp_path, catalog=catalog_of(model))


def test_a_small_file_that_no_hub_hashes_is_held_to_our_pin(hub: FakeHub, tmp_path: Path) -> None:
    hub.repos[REPO]["config.yaml"] = b"model: FsmnVADStreaming #\n"

    with pytest.raises(ModelUnavailable, match=r"config\.yaml: SHA-256"):
        fetch(tiny_model(HUGGING_FACE), tmp_path, hub)


def test_a_file_of_the_wrong_shape_is_refused_where_no_hash_is_known(
    hub: FakeHub, tmp_path: Path
) -> None:
    hub.repos[REPO]["model.pt"] = b"<html>sign in first</html>"

    with pytest.raises(ModelUnavailable, match="is not a torch checkpoint"):
        fetch(tiny_model(MODELSCOPE, pinned=False), tmp_path, hub)


def test_another_class_of_model_is_refused(hub: FakeHub, tmp_path: Path) -> None:
    hub.repos[REPO]["config.yaml"] = b"model: Paraformer\n"

    with pytest.raises(ModelUnavailable, match="says model: Paraformer, not FsmnVADStreaming"):
        fetch(tiny_model(MODELSCOPE, pinned=False), tmp_path, hub)


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
    """Answers one connection with a byte now and then, for as long as somebody reads."""
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
