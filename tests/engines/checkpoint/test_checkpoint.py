"""A model directory that does not fit is refused, with the reason and the remedy."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from deployments.core.errors import ModelUnavailable
from deployments.engines.checkpoint import load_checkpoint

CLASSES = ("FsmnVADStreaming",)
KEY = "encoder.in_linear1.linear.bias"


@pytest.fixture
def model_dir(tiny_vad_dir: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_vad_dir, tmp_path / "vad"))


def edit_weights(model_dir: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    weights = torch.load(model_dir / "model.pt", weights_only=True)
    torch.save(change(weights), model_dir / "model.pt")


def edit_config(model_dir: Path, **changes: Any) -> None:
    config = yaml.safe_load((model_dir / "config.yaml").read_text("utf-8"))
    (model_dir / "config.yaml").write_text(yaml.safe_dump({**config, **changes}), "utf-8")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda w: {k: v for k, v in w.items() if k != KEY}, f"missing: {KEY}"),
        (lambda w: {**w, "encoder.new": w[KEY]}, "unexpected: encoder.new"),
        (lambda w: {**w, KEY: w[KEY][:3]}, rf"mis-shaped: {KEY} \(3,\) instead of \(8,\)"),
        (lambda w: {}, "and 11 more"),
    ],
    ids=["missing", "unexpected", "mis-shaped", "many"],
)
def test_weights_that_do_not_fit_are_named(
    model_dir: Path, change: Callable[[dict[str, Any]], Any], says: str
) -> None:
    edit_weights(model_dir, change)

    with pytest.raises(ModelUnavailable, match=says) as caught:
        load_checkpoint(model_dir, "fsmn-vad", classes=CLASSES)

    assert "weights fetch" in str(caught.value)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda w: {"state_dict": w},
        lambda w: {f"module.{key}": value for key, value in w.items()},
        lambda w: {**w, "ctc.ctc_lo.weight": w[KEY]},
    ],
    ids=["wrapped", "from data-parallel training", "with a head for training"],
)
def test_weights_saved_otherwise_are_loaded(
    model_dir: Path, wrap: Callable[[dict[str, Any]], Any]
) -> None:
    before = load_checkpoint(model_dir, "fsmn-vad", classes=CLASSES).model.state_dict()
    edit_weights(model_dir, wrap)

    after = load_checkpoint(model_dir, "fsmn-vad", classes=CLASSES).model.state_dict()

    assert all(torch.equal(after[key], before[key]) for key in before)


@pytest.mark.parametrize("name", ["model.pt", "config.yaml"])
def test_a_missing_file_is_named(model_dir: Path, name: str) -> None:
    (model_dir / name).unlink()

    with pytest.raises(ModelUnavailable, match=f"{name} does not exist"):
        load_checkpoint(model_dir, "fsmn-vad", classes=CLASSES)


@pytest.mark.parametrize("name", ["model.pt", "config.yaml", "am.mvn", "configuration.json"])
def test_a_broken_file_is_refused(model_dir: Path, name: str) -> None:
    (model_dir / name).write_bytes(b"\x00 not what it was: [")

    with pytest.raises(ModelUnavailable, match="fetch"):
        load_checkpoint(model_dir, "fsmn-vad", classes=CLASSES)


def test_a_model_of_another_class_is_refused(model_dir: Path) -> None:
    with pytest.raises(ModelUnavailable, match="holds a 'FsmnVADStreaming'"):
        load_checkpoint(model_dir, "paraformer-zh", classes=("SeacoParaformer",))


def test_features_that_we_do_not_compute_are_refused(model_dir: Path) -> None:
    edit_config(model_dir, frontend_conf={"fs": 8000, "lfr_m": 5})

    with pytest.raises(ModelUnavailable, match=r"wants \{'fs': 8000\}"):
        load_checkpoint(model_dir, "fsmn-vad", classes=CLASSES)


def test_a_directory_without_configuration_json_is_read_by_the_names_of_its_files(
    model_dir: Path,
) -> None:
    expected = load_checkpoint(model_dir, "fsmn-vad", classes=CLASSES)
    (model_dir / "configuration.json").unlink()

    found = load_checkpoint(model_dir, "fsmn-vad", classes=CLASSES)

    assert found.config == expected.config
    assert found.cmvn is not None
    assert expected.cmvn is not None
    assert torch.equal(found.cmvn, expected.cmvn)


def test_a_listed_file_that_is_not_there_is_left_out(model_dir: Path) -> None:
    path = model_dir / "configuration.json"
    about = json.loads(path.read_text("utf-8"))
    about["file_path_metas"]["jieba_usr_dict"] = "nowhere"
    path.write_text(json.dumps(about), "utf-8")

    assert "jieba_usr_dict" not in load_checkpoint(model_dir, "vad", classes=CLASSES).config
