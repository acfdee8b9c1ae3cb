"""The methods that a stage calls on its engine, one protocol for each stage.

Any class with these methods is an engine; there is no base class. An engine keeps no state between
calls and imports no Ray. It returns one result per item, in the order of the batch. `families.py`
says which class serves which family of models.
"""

from __future__ import annotations

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


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """How an engine is to run. Every engine is constructed with `(model_dir: Path, settings)`."""

    name: str = "local"  # reported in EngineInfo
    device: str = "cpu"  # "cpu" or "cuda"
    dtype: str = "fp32"  # "fp32", "fp16", "bf16", "int8"; an engine refuses what it cannot run
    num_threads: int = 1  # CPU threads of one call
    memory_fraction: float | None = None  # this process's share of the GPU's memory
    punctuation: str = "exact"  # or "windowed": longer pieces, some marks differ from FunASR's


class AsrEngine(Protocol):
    info: EngineInfo

    def transcribe(self, batch: Sequence[Audio], hints: Hints) -> list[Recognition]:
        """One recognition per item; an item too short to hold speech gives an empty one.

        Raises OutOfMemory where the batch does not fit, EngineFailed where the model fails.
        """
        ...


@runtime_checkable
class CopiesAhead(Protocol):
    """An AsrEngine that can copy its next batch to the device while it transcribes another."""

    def copy_in(self, batch: Sequence[Audio]) -> Sequence[Audio]:
        """Starts the copy and returns the batch to give to `transcribe`. May run on any thread."""
        ...


class Scan(Protocol):
    """A recording that a VadEngine is reading, and how far it has read.

    Its memory does not grow with the length of the recording.
    """

    @property
    def finished(self) -> bool:
        """Whether the whole recording was read."""
        ...


class VadEngine(Protocol):
    def detect(self, audio: Audio) -> list[Span]:
        """The spans of speech: sorted, without overlap, inside the audio."""
        ...

    def scan(self, audio: Audio) -> Scan:
        """A scan at the beginning of the recording. Only `advance` of this engine can read it."""
        ...

    def advance(self, scans: Sequence[Any]) -> list[list[Span]]:
        """Reads a piece of bounded length of every scan. Returns the new spans of each.

        The spans are final. Over a whole scan they are the spans of `detect`, whatever other scans
        were read with it.
        """
        ...


class PunctuationEngine(Protocol):
    def punctuate(self, batch: Sequence[PunctuationTask]) -> list[PunctuationStep]:
        """One step per task; documents do not influence each other."""
        ...
