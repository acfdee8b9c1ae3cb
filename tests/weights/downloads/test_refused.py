"""Files of a hub that are not the expected ones are refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from deployments.core.errors import ModelUnavailable
from deployments.weights.sources import Source, WantedFile
from deployments.weights.store import is_cached
from tests.weights.fake_hub import FakeHub
from tests.weights.fetching import fetch, left_over
from tests.weights.samples import (
    BOTH,
    CHECKPOINT_BYTES,
    CONTENTS,
    HUGGING_FACE,
    MODELSCOPE,
    REPO,
    catalog_of,
    sha256,
    tiny_model,
)


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

    assert not [name for name in left_over(tmp_path) if name.startswith("model.pt")]
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


@pytest.mark.parametrize("path", ["config.yaml", "am.mvn"])
@pytest.mark.parametrize("source", [MODELSCOPE, HUGGING_FACE], ids=["modelscope", "hf"])
def test_a_wrong_small_file_is_refused_before_the_checkpoint_is_downloaded(
    hub: FakeHub, tmp_path: Path, path: str, source: Source
) -> None:
    hub.repos[REPO][path] = b"model: Other\n"

    with pytest.raises(ModelUnavailable, match=path):
        fetch(tiny_model(source), tmp_path, hub)

    assert hub.content_requests("model.pt") == []


@pytest.mark.parametrize("source", [MODELSCOPE, HUGGING_FACE], ids=["modelscope", "hf"])
def test_a_file_that_the_hub_announces_in_another_size_is_refused_before_its_first_byte(
    hub: FakeHub, tmp_path: Path, source: Source
) -> None:
    plain = tiny_model(source, pinned=False)
    model = replace(plain, files=(*plain.files[:1], WantedFile("config.yaml", 812)))

    with pytest.raises(ModelUnavailable, match="not the expected 812"):
        fetch(model, tmp_path, hub)

    assert hub.seen == []


def test_a_web_page_in_place_of_an_unpinned_small_file_is_refused_before_the_checkpoint(
    hub: FakeHub, tmp_path: Path
) -> None:
    hub.repos[REPO]["config.yaml"] = b"<html>sign in: [</html>"

    with pytest.raises(ModelUnavailable, match=r"config\.yaml is not YAML"):
        fetch(tiny_model(HUGGING_FACE, pinned=False), tmp_path, hub)

    assert hub.content_requests("model.pt") == []
