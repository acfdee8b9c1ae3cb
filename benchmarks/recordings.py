"""Recordings of any length out of the project's own sample meeting, and their wav files."""

from __future__ import annotations

import functools
import io
import json
import os
import wave
from itertools import cycle
from pathlib import Path

import numpy as np

from deployments.core.audio import decode
from deployments.core.types import SAMPLE_RATE_HZ, SAMPLES_PER_MS, Audio

# Real recordings and vocabularies, which are not in the repository: where this names a directory,
# or `shared` beside the checkout. What needs them is left out, and says so, where there are none.
EXTRA = Path(os.environ.get("PARAFORMER_EXTRA_DATA", Path(__file__).parents[2] / "shared"))
SAMPLE = Path(__file__).parent.parent / "tests" / "data" / "meeting.flac"
MAX_DURATION_S = 24 * 3600.0
PAUSE_MS = (300, 2500)  # between two utterances, drawn evenly
ROOM_NOISE = 12.0  # standard deviation in int16 steps: a quiet room, not digital silence


def read_audio(path: Path) -> Audio:
    """A recording of any format as samples. Raises InvalidAudio, OSError."""
    upload = np.frombuffer(path.read_bytes(), dtype=np.uint8)
    return decode(upload, channel=None, max_duration_s=MAX_DURATION_S)


def utterances(count: int) -> list[Audio]:
    """The first of the sample meeting's utterances, shortest first."""
    meeting = read_audio(SAMPLE)
    said = json.loads(SAMPLE.with_suffix(".json").read_text("utf-8"))["utterances"][:count]
    pieces = [meeting[u["start_ms"] * SAMPLES_PER_MS : u["end_ms"] * SAMPLES_PER_MS] for u in said]
    return sorted(pieces, key=len)


def shuffled_meeting(n_ms: int, *, seed: int, pause_ms: tuple[int, int] = PAUSE_MS) -> Audio:
    """The sample meeting's utterances (synthetic speech) in random order, until `n_ms` are full.

    `pause_ms` are the shortest and the longest pause between two.
    """
    rng = np.random.default_rng(seed)
    meeting = _sample()
    utterances = json.loads(SAMPLE.with_suffix(".json").read_text("utf-8"))["utterances"]
    order = rng.permutation(len(utterances))
    pieces: list[Audio] = []
    n_missing = n_ms * SAMPLES_PER_MS
    for index in cycle(order):
        said = utterances[index]
        pause = room_noise(int(rng.integers(*pause_ms)), rng)
        speech = meeting[said["start_ms"] * SAMPLES_PER_MS : said["end_ms"] * SAMPLES_PER_MS]
        pieces += [pause, speech]
        n_missing -= len(pause) + len(speech)
        if n_missing <= 0:
            break
    return np.concatenate(pieces)[: n_ms * SAMPLES_PER_MS]


@functools.cache
def _sample() -> Audio:
    return read_audio(SAMPLE)


def room_noise(n_ms: int, rng: np.random.Generator) -> Audio:
    """Faint noise."""
    return np.rint(rng.normal(0, ROOM_NOISE, n_ms * SAMPLES_PER_MS)).astype(np.int16)


def wav_bytes(audio: Audio) -> bytes:
    """The samples as a wav file, 16 kHz, mono, 16 bits."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE_HZ)
        file.writeframes(audio.astype("<i2").tobytes())
    return buffer.getvalue()
