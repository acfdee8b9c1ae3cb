"""Models that are given as a directory: recognises their family and checks their files."""

from __future__ import annotations

import json
from pathlib import Path

from deployments.core.errors import ModelUnavailable
from deployments.weights.sources import Weights
from deployments.weights.verify import read_funasr_class, shape_problem

# `model:` in FunASR's config.yaml -> (family, stage)
FUNASR_CLASSES = {
    "SeacoParaformer": ("paraformer", "asr"),
    "BiCifParaformer": ("paraformer-bicif", "asr"),
    "FsmnVADStreaming": ("fsmn-vad", "vad"),
    "CTTransformer": ("ct-transformer", "punctuation"),
}
_NEEDED = {
    "paraformer": ("model.pt", "am.mvn", "tokens.json"),
    "paraformer-bicif": ("model.pt", "am.mvn", "tokens.json"),
    "fsmn-vad": ("model.pt", "am.mvn"),
    "ct-transformer": ("model.pt", "tokens.json"),
    "whisper-onnx": ("config.json", "tokenizer.json"),
    "whisper-cpp": (),
    "paraformer-onnx": ("config.yaml", "am.mvn", "tokens.json", "encoder.onnx", "decoder.onnx"),
}
# `engines/paraformer/export_onnx.py` writes this file beside the config.yaml of the exported model.
PARAFORMER_ONNX = "paraformer_onnx.json"


def weights_in(directory: Path) -> Weights:
    """The model in a directory. Raises ModelUnavailable, which says what is missing or unknown."""
    family, stage = _family(directory)
    problems = [
        f"{name} {problem}"
        for name in _NEEDED[family]
        if (problem := shape_problem(directory / name))
    ]
    if problems:
        raise ModelUnavailable(str(directory), f"{'; '.join(problems)}.")
    return Weights(directory.name, family, stage, directory, "directory")


def _family(directory: Path) -> tuple[str, str]:
    if (directory / PARAFORMER_ONNX).is_file():
        return "paraformer-onnx", "asr"
    funasr_class = read_funasr_class(directory)
    if funasr_class in FUNASR_CLASSES:
        return FUNASR_CLASSES[funasr_class]
    if funasr_class is not None:
        raise ModelUnavailable(
            str(directory),
            f"its config.yaml says model: {funasr_class}; served are {', '.join(FUNASR_CLASSES)}.",
        )
    if _is_whisper_onnx(directory):
        return "whisper-onnx", "asr"
    if len(list(directory.glob("ggml-*.bin"))) == 1:
        return "whisper-cpp", "asr"
    raise ModelUnavailable(
        str(directory),
        "the directory holds no model that is known here: no config.yaml with a `model:` line "
        "(FunASR), no config.json of Whisper with onnx files, no single ggml-*.bin (whisper.cpp).",
    )


def _is_whisper_onnx(directory: Path) -> bool:
    config = directory / "config.json"
    if shape_problem(config) or not any(directory.glob("**/*.onnx")):
        return False
    content = json.loads(config.read_text(encoding="utf-8"))
    return isinstance(content, dict) and content.get("model_type") == "whisper"
