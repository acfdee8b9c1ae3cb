"""What a stage asks of its engine. Anything with these methods is an engine; no base class.

Engines keep no state between calls, import no Ray, and return results in the order of the batch,
one per item. `ENGINES` maps a model family to `module:Class`, imported on first use.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from deployments.core.types import (
    Audio,
    EngineInfo,
    Hints,
    PunctuationStep,
    PunctuationTask,
    Recognition,
    Span,
)
from deployments.engines.whisper_languages import WHISPER_LANGUAGES


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """How an engine is to run; every engine's constructor is `(model_dir: Path, settings)`."""

    name: str = "local"  # the id to report in EngineInfo
    device: str = "cpu"  # "cpu" or "cuda"
    dtype: str = "fp32"  # "fp32", "fp16", "bf16", "int8"; an engine refuses what it cannot run
    num_threads: int = 1  # of one call on the CPU
    memory_fraction: float | None = None  # of the GPU's memory, this process's share
    punctuation: str = "exact"  # or "windowed": longer pieces, other marks than FunASR's in places


class AsrEngine(Protocol):
    info: EngineInfo

    def transcribe(self, batch: Sequence[Audio], hints: Hints) -> list[Recognition]:
        """One recognition per item; an item too short to hold speech gives an empty one.

        Raises OutOfMemory where the batch does not fit, EngineFailed where the model fails.
        """
        ...


@runtime_checkable
class CopiesAhead(Protocol):
    """An AsrEngine that is given its next batch while it reads one."""

    def copy_in(self, batch: Sequence[Audio]) -> Sequence[Audio]:
        """The same batch for `transcribe`, its copy to the device begun; called on any thread."""
        ...


class Scan(Protocol):
    """A recording being read by a VadEngine: its place in it, and nothing that grows."""

    @property
    def finished(self) -> bool:
        """Whether all of it was read."""
        ...


class VadEngine(Protocol):
    def detect(self, audio: Audio) -> list[Span]:
        """Where speech is: sorted, no overlap, inside the audio."""
        ...

    def scan(self, audio: Audio) -> Scan:
        """The recording at its beginning, for `advance` of this engine alone."""
        ...

    def advance(self, scans: Sequence[Any]) -> list[list[Span]]:
        """Reads a bounded piece of every scan, and gives the spans that are final now for each.

        Over a whole scan they are those of `detect`, whatever was read beside it.
        """
        ...


class PunctuationEngine(Protocol):
    def punctuate(self, batch: Sequence[PunctuationTask]) -> list[PunctuationStep]:
        """One step per task; documents do not influence each other."""
        ...


@dataclass(frozen=True, slots=True)
class Family:
    """A model family: its class, its stage, and what the graph must know before one is loaded."""

    target: str  # "module:Class", imported on first use
    stage: str  # "vad", "asr" or "punctuation"
    has_word_times: bool = False
    punctuates: bool = False
    max_segment_ms: int = 0
    languages: tuple[str, ...] = ("zh",)  # ISO 639-1; the first is the default
    hints: tuple[str, ...] = ()  # the fields of Hints that have an effect
    gpu: bool = True  # False: runs on CPU only, a GPU pool refuses it
    cpu_dtype: str = "fp32"  # what its weights are where it runs on a CPU


# Paraformer reads what FSMN-VAD gives (at most 30 s and a frame); 60 s is where its attention
# starts to cost more than the rest (measured: 1.5 against 1.1 MB a padded second at 30 s).
ENGINES = {
    "paraformer": Family(
        "deployments.engines.paraformer:Paraformer",
        "asr",
        has_word_times=True,
        max_segment_ms=60_000,
        hints=("hotwords",),  # SeACo-Paraformer
    ),
    "paraformer-bicif": Family(
        "deployments.engines.paraformer:Paraformer",
        "asr",
        has_word_times=True,
        max_segment_ms=60_000,
    ),
    # An export has no hotword decoder in it: `hints` stays empty, and a request with hotwords
    # is told so.
    "paraformer-onnx": Family(
        "deployments.engines.paraformer_onnx:ParaformerOnnx",
        "asr",
        cpu_dtype="int8",
        has_word_times=True,
        max_segment_ms=60_000,
        gpu=False,
    ),
    # Whisper's window is 30 s; 25 leaves room for the segment's own silence.
    "whisper-onnx": Family(
        "deployments.engines.whisper_onnx:WhisperOnnx",
        "asr",
        cpu_dtype="int8",
        punctuates=True,
        max_segment_ms=25_000,
        languages=WHISPER_LANGUAGES,
        hints=("language", "prompt"),
        gpu=False,
    ),
    "whisper-cpp": Family(
        "deployments.engines.whisper_cpp:WhisperCpp",
        "asr",
        cpu_dtype="fp16",
        punctuates=True,
        max_segment_ms=25_000,
        languages=WHISPER_LANGUAGES,
        hints=("language", "prompt"),
        gpu=False,
    ),
    "fsmn-vad": Family("deployments.engines.fsmn_vad:FsmnVad", "vad"),
    "ct-transformer": Family("deployments.engines.ct_transformer:CtTransformer", "punctuation"),
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
    """The class behind a family's name; construct it with `(model_dir, EngineSettings(...))`."""
    module, name = ENGINES[family].target.split(":")
    return getattr(importlib.import_module(module), name)


def asr_info(family: str, settings: EngineSettings) -> EngineInfo:
    """What an ASR engine of this family can do and how it runs."""
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
