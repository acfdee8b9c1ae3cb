"""The pinned closures hold what pyproject.toml asks for, and what those packages ask for."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))

# FunASR and librosa declare these; the service imports none of them. Tried without.
LEFT_OUT = {
    "funasr": "huggingface-hub hydra-core jaconv jamo modelscope oss2 regex safetensors "
    "sentencepiece tensorboardx tiktoken torch-complex transformers umap-learn",
    "librosa": "audioread decorator joblib pooch scikit-learn soxr",
}


def pins(name: str) -> dict[str, Requirement]:
    """Package to requirement, as one of the files in requirements/ pins it."""
    lines = (ROOT / "requirements" / name).read_text("utf-8").splitlines()
    found = [Requirement(line) for line in lines if line and not line.startswith(("#", "-r"))]
    return {canonicalize_name(pin.name): pin for pin in found}


CPU = pins("cpu.txt")
GPU = pins("gpu.txt")


def declared(package: str) -> set[str]:
    """What an installed package says it needs here, with the extras that cpu.txt names."""
    extras = CPU[package].extras or {""}
    wanted = [Requirement(text) for text in requires(package) or []]
    return {
        canonicalize_name(need.name)
        for need in wanted
        if not need.marker or any(need.marker.evaluate({"extra": extra}) for extra in extras)
    }


@pytest.mark.parametrize("pin", [*CPU.values(), *GPU.values()], ids=str)
def test_every_package_is_pinned_to_one_version(pin: Requirement) -> None:
    assert re.fullmatch(r"==[\w.]+", str(pin.specifier))


@pytest.mark.parametrize("package", sorted(CPU))
def test_the_closure_is_complete(package: str) -> None:
    left_out = set(LEFT_OUT.get(package, "").split())

    assert declared(package) - left_out <= {*CPU, *GPU}  # GPU: the CUDA build of torch


def test_the_gpu_closure_adds_to_the_cpu_closure_and_repeats_nothing() -> None:
    assert "-r cpu.txt" in (ROOT / "requirements" / "gpu.txt").read_text("utf-8").splitlines()
    assert not set(CPU) & set(GPU)


@pytest.mark.parametrize(
    "text",
    [
        *PROJECT["project"]["dependencies"],
        *PROJECT["project"]["optional-dependencies"]["server"],
        *PROJECT["dependency-groups"]["dev"],
    ],
)
def test_what_the_project_asks_for_is_what_is_pinned(text: str) -> None:
    wanted = Requirement(text)
    pinned = CPU[canonicalize_name(wanted.name)]

    (version,) = pinned.specifier
    assert wanted.specifier.contains(version.version)
    assert wanted.extras <= pinned.extras


def test_torchaudio_stays_out() -> None:
    assert "torchaudio" not in {**CPU, **GPU}  # beside another torch it breaks FunASR's import
