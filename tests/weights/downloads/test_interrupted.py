"""Downloads that are cut off, stall or leave a part behind."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from deployments.core.errors import ModelUnavailable
from deployments.weights.settings import Endpoints
from deployments.weights.sources import Source
from deployments.weights.store import ensure
from tests.weights.fake_hub import FakeHub, serving
from tests.weights.fetching import fetch
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
