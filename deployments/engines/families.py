"""The table of model families: the engine class, the stage and the abilities of each."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

from deployments.core.types import EngineInfo
from deployments.engines.protocols import EngineSettings
from deployments.engines.whisper_languages import WHISPER_LANGUAGES


@dataclass(frozen=True, slots=True)
class Family:
    """A family of models: its engine class, its stage, and facts that are needed before loading."""

    target: str  # "module:Class", imported on first use
    stage: str  # "vad", "asr" or "punctuation"
    has_word_times: bool = False
    punctuates: bool = False
    max_segment_ms: int = 0
    languages: tuple[str, ...] = ("zh",)  # ISO 639-1 codes; the first is the default
    hints: tuple[str, ...] = ()  # the fields of Hints that have an effect
    gpu: bool = True  # False: runs on a CPU only, and a GPU pool refuses it
    cpu_dtype: str = "fp32"  # the number format of the weights on a CPU


# FSMN-VAD gives segments of at most 30 s and a frame, so Paraformer's limit of 60 s leaves room.
# The limit is not higher, because from 60 s on attention takes more memory than the rest of the
# model. Measured: 1.5 MB for each padded second at 60 s, 1.1 MB at 30 s.
ENGINES = {
    "paraformer": Family(
        "deployments.engines.paraformer.engine:Paraformer",
        "asr",
        has_word_times=True,
        max_segment_ms=60_000,
        hints=("hotwords",),  # SeACo-Paraformer
    ),
    "paraformer-bicif": Family(
        "deployments.engines.paraformer.engine:Paraformer",
        "asr",
        has_word_times=True,
        max_segment_ms=60_000,
    ),
    # The ONNX export has no hotword decoder. So `hints` is empty, and a request with hotwords is
    # told that they have no effect.
    "paraformer-onnx": Family(
        "deployments.engines.paraformer.onnx_engine:ParaformerOnnx",
        "asr",
        cpu_dtype="int8",
        has_word_times=True,
        max_segment_ms=60_000,
        gpu=False,
    ),
    # Whisper reads windows of 30 s. 25 s leave room for the silence by which it finds the end.
    "whisper-onnx": Family(
        "deployments.engines.whisper.onnx_engine:WhisperOnnx",
        "asr",
        cpu_dtype="int8",
        punctuates=True,
        max_segment_ms=25_000,
        languages=WHISPER_LANGUAGES,
        hints=("language", "prompt"),
        gpu=False,
    ),
    "whisper-cpp": Family(
        "deployments.engines.whisper.cpp_engine:WhisperCpp",
        "asr",
        cpu_dtype="fp16",
        punctuates=True,
        max_segment_ms=25_000,
        languages=WHISPER_LANGUAGES,
        hints=("language", "prompt"),
        gpu=False,
    ),
    "fsmn-vad": Family("deployments.engines.fsmn_vad.engine:FsmnVad", "vad"),
    "ct-transformer": Family(
        "deployments.engines.ct_transformer.engine:CtTransformer", "punctuation"
    ),
    "fake-asr": Family(
        "deployments.engines.fake:FakeAsr", "asr", has_word_times=True, max_segment_ms=30_000
    ),
    "fake-slow": Family(
        "deployments.engines.fake:FakeSlowAsr", "asr", has_word_times=True, max_segment_ms=30_000
    ),
    "fake-timed": Family(
        "deployments.engines.fake:FakeTimedAsr", "asr", max_segment_ms=30_000, hints=("prompt",)
    ),
    "fake-plain": Family(
        "deployments.engines.fake:FakePlainAsr",
        "asr",
        punctuates=True,
        max_segment_ms=30_000,
        hints=("prompt",),
    ),
    "fake-vad": Family("deployments.engines.fake:FakeVad", "vad"),
    "fake-punctuation": Family("deployments.engines.fake:FakePunctuation", "punctuation"),
}


def engine_class(family: str) -> Any:
    """The engine class of a family; construct it with `(model_dir, EngineSettings(...))`."""
    module, name = ENGINES[family].target.split(":")
    return getattr(importlib.import_module(module), name)


def asr_info(family: str, settings: EngineSettings) -> EngineInfo:
    """The description of an ASR engine of this family that runs with these settings."""
    traits = ENGINES[family]
    return EngineInfo(
        name=settings.name,
        device=settings.device,
        dtype=settings.dtype,
        has_word_times=traits.has_word_times,
        punctuates=traits.punctuates,
        max_segment_ms=traits.max_segment_ms,
        hints=traits.hints,
    )
