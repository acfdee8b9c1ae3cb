"""The `warnings` header of an answer: what users should know of a transcript that is there."""

from __future__ import annotations

from collections.abc import Sequence

from deployments.core.types import Transcript

OF_RECORDING = ("The channels ", "The time stamps ")  # how warnings about it begin


def header(warnings: Sequence[str]) -> dict[str, str]:
    """The header. Nothing where there is nothing to say."""
    return {"warnings": ", ".join(warnings)} if warnings else {}


def of_recording(transcript: Transcript) -> list[str]:
    """What is odd about the recording itself. Fields and segments are named in other words."""
    return [each for each in transcript.warnings if each.startswith(OF_RECORDING)]


def missing(transcript: Transcript) -> list[str]:
    """The segments without text, which most formats have no field for."""
    missing = [str(segment.index) for segment in transcript.segments if segment.error]
    return [f"no text for segments {' '.join(missing)}"] if missing else []
