"""Models that are named by a directory, and fakes, which have none."""

from __future__ import annotations

from pathlib import Path

import pytest

from deployments.core.errors import ModelUnavailable
from deployments.weights.sources import Weights
from deployments.weights.store import ensure, is_cached
from tests.weights.samples import CONTENTS, write_model

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
