"""Models that the hubs' own tools downloaded before are used, checked like a download."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from deployments.core.errors import ModelUnavailable
from deployments.weights.hub_caches import seems_present
from deployments.weights.settings import HubCaches
from deployments.weights.sources import Model, ModelScope, Source, WantedFile, Weights
from deployments.weights.store import ensure, verify_cached
from tests.weights.fake_hub import COMMIT, FakeHub
from tests.weights.samples import (
    CONTENTS,
    HUGGING_FACE,
    MODELSCOPE,
    catalog_of,
    quick_limits,
    tiny_model,
)

SNAPSHOT = f"hf/models--iic--tiny_vad/snapshots/{COMMIT}"
DOTTED = ModelScope("iic/tiny_v1.5", "v2.0.4")


@pytest.fixture
def caches(tmp_path: Path) -> HubCaches:
    return HubCaches(tmp_path / "ms", tmp_path / "hf")


def put(directory: Path, contents: dict[str, bytes]) -> Path:
    directory.mkdir(parents=True)
    for name, content in contents.items():
        (directory / name).write_bytes(content)
    return directory


def put_in_hf_cache(root: Path, contents: dict[str, bytes]) -> None:
    """As huggingface_hub does: blobs, symbolic links to them, and the commit of the branch."""
    repo = root / "hf" / "models--iic--tiny_vad"
    blobs = put(repo / "blobs", {f"blob-{name}": content for name, content in contents.items()})
    snapshot = put(repo / "snapshots" / COMMIT, {})
    for name in contents:
        (snapshot / name).symlink_to(Path("../..") / "blobs" / f"blob-{name}")
    put(repo / "refs", {"main": COMMIT.encode()})
    assert blobs.is_dir()


def take(model: Model, root: Path, caches: HubCaches, hub: FakeHub | None = None) -> Weights:
    return ensure(
        model.name,
        cache_dir=root / "ours",
        catalog=catalog_of(model),
        hub_caches=caches,
        offline=hub is None,
        endpoints=hub.endpoints if hub else None,
        limits=quick_limits(),
    )


@pytest.mark.parametrize(
    ("folder", "source"),
    [
        ("ms/hub/models/iic/tiny_vad", MODELSCOPE),
        ("ms/hub/iic/tiny_vad", MODELSCOPE),
        ("ms/models/iic/tiny_vad", MODELSCOPE),
        ("ms/iic/tiny_vad", MODELSCOPE),
        ("ms/hub/models/iic/tiny_v1___5", DOTTED),
        ("ms/hub/iic/tiny_v1.5", DOTTED),
    ],
)
@pytest.mark.parametrize("pinned", [True, False])
def test_a_model_that_modelscope_downloaded_is_used_without_a_network(
    tmp_path: Path, caches: HubCaches, folder: str, source: Source, pinned: bool
) -> None:
    theirs = put(tmp_path / folder, CONTENTS)
    model = tiny_model(source, pinned=pinned)

    weights = take(model, tmp_path, caches)

    assert {name: (weights.path / name).read_bytes() for name in CONTENTS} == CONTENTS
    assert str(theirs) in weights.source
    assert seems_present(model, caches)


def test_a_model_that_hugging_face_downloaded_is_used_and_stays_in_its_cache(
    tmp_path: Path, caches: HubCaches
) -> None:
    put_in_hf_cache(tmp_path, CONTENTS)
    model = tiny_model(HUGGING_FACE)

    weights = take(model, tmp_path, caches)

    assert not any((weights.path / name).is_symlink() for name in CONTENTS)
    assert (tmp_path / SNAPSHOT / "model.pt").read_bytes() == CONTENTS["model.pt"]
    checks = verify_cached(model.name, tmp_path / "ours", catalog=catalog_of(model))
    assert [check.problem for check in checks] == [None] * len(CONTENTS)


@pytest.mark.parametrize(
    ("wrong", "content"),
    [
        ("model.pt", b"\x80" + b"x" * 100),
        ("config.yaml", b"model: Other\n"),
        ("am.mvn", b""),
    ],
)
def test_a_file_of_a_hubs_cache_with_another_hash_is_never_used(
    tmp_path: Path, caches: HubCaches, wrong: str, content: bytes
) -> None:
    put(tmp_path / "ms/hub/iic/tiny_vad", {**CONTENTS, wrong: content})

    with pytest.raises(ModelUnavailable, match="not in the cache"):
        take(tiny_model(MODELSCOPE), tmp_path, caches)


def test_unpinned_files_of_another_class_of_model_are_not_taken(
    tmp_path: Path, caches: HubCaches
) -> None:
    put(tmp_path / "ms/hub/iic/tiny_vad", {**CONTENTS, "config.yaml": b"model: Other\n"})

    with pytest.raises(ModelUnavailable, match="not in the cache"):
        take(tiny_model(MODELSCOPE, pinned=False), tmp_path, caches)


@pytest.mark.parametrize("missing", ["config.yaml", "am.mvn"])
def test_only_what_a_hubs_cache_lacks_is_downloaded(
    hub: FakeHub, tmp_path: Path, caches: HubCaches, missing: str
) -> None:
    kept = {name: content for name, content in CONTENTS.items() if name != missing}
    put(tmp_path / "ms/hub/models/iic/tiny_vad", kept)

    weights = take(tiny_model(MODELSCOPE), tmp_path, caches, hub)

    assert [seen.path for seen in hub.seen] == [missing]
    assert weights.source == str(MODELSCOPE)


def test_a_required_file_that_a_hubs_cache_lacks_is_missed_and_an_optional_one_is_not(
    tmp_path: Path, caches: HubCaches
) -> None:
    put(tmp_path / "ms/hub/iic/tiny_vad", CONTENTS)
    plain = tiny_model(MODELSCOPE)
    needs = replace(plain, files=(*plain.files, WantedFile("jieba_usr_dict")))
    takes = replace(plain, files=(*plain.files, WantedFile("jieba_usr_dict", optional=True)))

    with pytest.raises(ModelUnavailable):
        take(needs, tmp_path, caches)

    assert not seems_present(needs, caches)
    assert take(takes, tmp_path, caches).name == "tiny-vad"


def test_hugging_face_is_not_asked_where_its_users_say_so(
    hub: FakeHub, tmp_path: Path, caches: HubCaches
) -> None:
    model = tiny_model(HUGGING_FACE)

    with pytest.raises(ModelUnavailable, match="HF_HUB_OFFLINE is set"):
        ensure(
            model.name,
            cache_dir=tmp_path / "ours",
            catalog=catalog_of(model),
            hub_caches=caches,
            endpoints=replace(hub.endpoints, hugging_face_offline=True),
        )

    assert hub.asked == []


@pytest.mark.parametrize(
    ("source", "sent"), [(HUGGING_FACE, {"Bearer hf_a"}), (MODELSCOPE, {None})]
)
def test_the_token_goes_to_hugging_face_alone(
    hub: FakeHub, tmp_path: Path, caches: HubCaches, source: Source, sent: set[str | None]
) -> None:
    model = tiny_model(source)

    ensure(
        model.name,
        cache_dir=tmp_path / "ours",
        catalog=catalog_of(model),
        hub_caches=caches,
        endpoints=replace(hub.endpoints, hugging_face_token="hf_a"),
    )

    assert set(hub.tokens) == sent
