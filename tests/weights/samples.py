"""A tiny model for tests: files that pass every structural check, and catalogue entries."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

import pytest

from deployments.weights.settings import Limits
from deployments.weights.sources import HuggingFace, Model, ModelScope, Source, WantedFile

REPO = "iic/tiny_vad"
CHECKPOINT_BYTES = 3_000_000

# A checkpoint of the old format starts with 0x80.
CONTENTS = {
    "model.pt": b"\x80" + random.Random(7).randbytes(CHECKPOINT_BYTES - 1),
    "config.yaml": b"model: FsmnVADStreaming\n",
    "am.mvn": b"<Nnet>\n<AddShift> 400 400\n<Rescale> 400 400\n</Nnet>\n",
}
MODELSCOPE = ModelScope(REPO, "v2.0.4")
HUGGING_FACE = HuggingFace(REPO, "main")
BOTH = pytest.mark.parametrize("source", [MODELSCOPE, HUGGING_FACE], ids=["modelscope", "hf"])


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def tiny_model(*sources: Source, pinned: bool = True, name: str = "tiny-vad") -> Model:
    files = tuple(
        WantedFile(path, len(content), (sha256(content),)) if pinned else WantedFile(path)
        for path, content in CONTENTS.items()
    )
    return Model(name, "fsmn-vad", "vad", files, sources, funasr_class="FsmnVADStreaming")


def catalog_of(model: Model) -> dict[str, Model]:
    return {model.name: model}


def quick_limits() -> Limits:
    """Short timeouts, and no pause between tries."""
    return Limits(
        connect_s=2.0,
        stall_s=0.5,
        file_s=20.0,
        command_s=20.0,
        lock_s=20.0,
        tries=3,
        sleep_s=lambda seconds: None,
    )


def write_model(directory: Path, **contents: bytes) -> Path:
    """The directory, made with these files. `__` in a name stands for a dot."""
    directory.mkdir(parents=True)
    for name, content in contents.items():
        (directory / name.replace("__", ".")).write_bytes(content)
    return directory
