"""Recordings of any length, made of the project's own sample meeting, and their wav files."""

from __future__ import annotations

import functools
import io
import json
import os
import wave
from fractions import Fraction
from itertools import cycle
from pathlib import Path

import av
import numpy as np

from deployments.core.media.decode import decode
from deployments.core.types import SAMPLE_RATE_HZ, SAMPLES_PER_MS, Audio

# The directory of real recordings and vocabularies, which are not in the repository. The default is
# `shared` beside the checkout. Tests and benchmarks that need absent files are skipped and say so.
EXTRA = Path(os.environ.get("PARAFORMER_EXTRA_DATA", Path(__file__).parents[3] / "shared"))
SAMPLE = Path(__file__).parents[2] / "tests" / "data" / "meeting.flac"
MAX_DURATION_S = 24 * 3600.0
PAUSE_MS = (300, 2500)  # between two utterances, drawn evenly
FRAME_SAMPLES = 320  # of Opus, 20 ms
ROOM_NOISE = 12.0  # standard deviation in int16 steps: a quiet room, not digital silence


def read_audio(path: Path) -> Audio:
    """The samples of a recording in any format. Raises InvalidAudio, OSError."""
    upload = np.frombuffer(path.read_bytes(), dtype=np.uint8)
    return decode(upload, channel=None, max_duration_s=MAX_DURATION_S)


def utterances(count: int) -> list[Audio]:
    """The first `count` utterances of the sample meeting, shortest first."""
    meeting = read_audio(SAMPLE)
    said = json.loads(SAMPLE.with_suffix(".json").read_text("utf-8"))["utterances"][:count]
    pieces = [meeting[u["start_ms"] * SAMPLES_PER_MS : u["end_ms"] * SAMPLES_PER_MS] for u in said]
    return sorted(pieces, key=len)


def shuffled_meeting(n_ms: int, *, seed: int, pause_ms: tuple[int, int] = PAUSE_MS) -> Audio:
    """A recording of `n_ms` made of the sample meeting's utterances in random order.

    The utterances are synthetic speech; they repeat where the recording is longer than all of them.
    `pause_ms` holds the shortest and the longest pause between two.
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
    """Faint noise, as in a quiet room."""
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


def with_a_hole(audio: Audio, hole_s: int) -> bytes:
    """The samples twice, as Opus in Matroska, with a hole in the time stamps between the two."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="matroska") as out:
        stream = out.add_stream("libopus", rate=SAMPLE_RATE_HZ, layout="mono")
        assert isinstance(stream, av.AudioStream)
        for start in (0, len(audio) + hole_s * SAMPLE_RATE_HZ):
            for at in range(0, len(audio) - FRAME_SAMPLES + 1, FRAME_SAMPLES):
                piece = audio[None, at : at + FRAME_SAMPLES]
                frame = av.AudioFrame.from_ndarray(piece, format="s16", layout="mono")
                frame.sample_rate, frame.time_base = SAMPLE_RATE_HZ, Fraction(1, SAMPLE_RATE_HZ)
                frame.pts = start + at
                out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return buffer.getvalue()
