"""Both of torch's file formats, and the layouts that trainers and exporters save weights in."""

from __future__ import annotations

import argparse
import io
import shutil
import tarfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from deployments.core.errors import ModelUnavailable
from deployments.engines.checkpoint import load_checkpoint
from deployments.engines.weights_file import read_weights

CLASSES = ("FsmnVADStreaming",)
Weights = dict[str, Tensor]


@pytest.fixture
def model_dir(tiny_vad_dir: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_vad_dir, tmp_path / "vad"))


@pytest.fixture(params=[True, False], ids=["zip", "before torch 1.6"])
def zipped(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def prefixed(prefix: str, weights: Weights) -> Weights:
    return {prefix + key: value for key, value in weights.items()}


def of_one_storage(weights: Weights) -> Weights:
    """The same values as views of one tensor, as flattened parameters are saved."""
    flat = torch.cat([value.flatten() for value in weights.values()])
    parts = flat.split([value.numel() for value in weights.values()])
    return {k: part.view(v.shape) for (k, v), part in zip(weights.items(), parts, strict=True)}


def strided(weights: Weights) -> Weights:
    """The same values, each as every second element of a larger tensor."""
    return {key: torch.stack([v, v], dim=-1)[..., 0] for key, v in weights.items()}


def to(dtype: torch.dtype) -> Callable[[Weights], Weights]:
    return lambda weights: {key: value.to(dtype) for key, value in weights.items()}


def first(weights: Weights) -> Tensor:
    return next(iter(weights.values()))


LAYOUTS: dict[str, Callable[[Weights], Any]] = {
    "flat": dict,
    "ordered": OrderedDict,
    "state_dict": lambda w: {"state_dict": w},
    "model_state_dict": lambda w: {"model_state_dict": w},
    "model": lambda w: {"model": w},
    "state_dict in model": lambda w: {"model": {"state_dict": w}},
    "beside a trainer's state": lambda w: {
        "epoch": 3,
        "optimizer": {"state": {0: {"exp_avg": first(w)}}, "param_groups": [{"lr": 1e-4}]},
        "state_dict": w,
    },
    "module.": lambda w: prefixed("module.", w),
    "module. in state_dict": lambda w: {"state_dict": prefixed("module.", w)},
    "module. twice": lambda w: prefixed("module.module.", w),
    "compiled": lambda w: prefixed("module._orig_mod.", w),
    "parameters": lambda w: {k: torch.nn.Parameter(v) for k, v in w.items()},
    "one storage": of_one_storage,
    "strided": strided,
    "half": to(torch.float16),
    "bfloat16": to(torch.bfloat16),
    "double": to(torch.float64),
    "heads for training": lambda w: {
        **w,
        "ctc.ctc_lo.weight": first(w),
        "criterion_att.weight": first(w),
    },
    "bias_embed": lambda w: {**w, "bias_embed.weight": torch.ones(4, 2)},
}


@pytest.mark.parametrize("layout", list(LAYOUTS))
def test_every_layout_is_loaded_in_both_formats(model_dir: Path, zipped: bool, layout: str) -> None:
    before = load_checkpoint(model_dir, "vad", classes=CLASSES).model.state_dict()
    stored = torch.load(model_dir / "model.pt", weights_only=True)
    changed = LAYOUTS[layout](stored)
    torch.save(changed, model_dir / "model.pt", _use_new_zipfile_serialization=zipped)

    after = load_checkpoint(model_dir, "vad", classes=CLASSES).model.state_dict()

    assert before.keys() == after.keys()
    torch.testing.assert_close(after, before, rtol=1e-2, atol=1e-3)
    assert {value.dtype for value in after.values()} == {torch.float32}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (lambda w: {"state_dict": w, "args": argparse.Namespace(lr=1)}, "argparse.Namespace"),
        (lambda w: torch.nn.Linear(2, 2), r"Save its `state_dict\(\)` alone"),
        (lambda w: {"state_dict": w, "where": Path("/x")}, "Python objects"),
        (list, "no mapping from names to tensors"),
        (first, "no mapping from names to tensors"),
        (lambda w: {"epoch": 3}, "no mapping from names to tensors"),
        (lambda w: {"state_dict": {}}, "missing: "),
    ],
    ids=["namespace", "module", "path", "list", "tensor", "no weights", "empty"],
)
def test_what_is_no_set_of_weights_is_refused_with_the_reason(
    model_dir: Path, zipped: bool, content: Callable[[Weights], Any], says: str
) -> None:
    stored = torch.load(model_dir / "model.pt", weights_only=True)
    torch.save(content(stored), model_dir / "model.pt", _use_new_zipfile_serialization=zipped)

    with pytest.raises(ModelUnavailable, match=says):
        load_checkpoint(model_dir, "vad", classes=CLASSES)


class Harmful:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_no_code_of_a_checkpoint_is_run(model_dir: Path, tmp_path: Path, zipped: bool) -> None:
    torch.save(
        Harmful(tmp_path / "run"), model_dir / "model.pt", _use_new_zipfile_serialization=zipped
    )

    with pytest.raises(ModelUnavailable, match="could run code"):
        load_checkpoint(model_dir, "vad", classes=CLASSES)

    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_checkpoint_that_was_cut_is_refused(model_dir: Path, zipped: bool, share: float) -> None:
    path = model_dir / "model.pt"
    stored = torch.load(path, weights_only=True)
    torch.save(stored, path, _use_new_zipfile_serialization=zipped)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])

    with pytest.raises(ModelUnavailable, match="cannot be read"):
        load_checkpoint(model_dir, "vad", classes=CLASSES)


def test_the_tar_archives_of_the_first_torch_are_refused(model_dir: Path) -> None:
    with tarfile.open(model_dir / "model.pt", "w") as archive:
        archive.addfile(tarfile.TarInfo("storages"), io.BytesIO())

    with pytest.raises(ModelUnavailable, match="cannot be read"):
        load_checkpoint(model_dir, "vad", classes=CLASSES)


def test_a_zip_archive_is_mapped_and_not_copied(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save({"weight": torch.ones(1 << 16)}, path)

    read = read_weights(path, "any")

    assert str(path) in Path("/proc/self/maps").read_text()
    assert read["weight"].sum() == 1 << 16
