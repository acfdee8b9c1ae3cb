"""The sample meeting as the fake service gives it: sentences, words, sound and peaks."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from deployments.core.media.decode import decode
from deployments.core.types import SAMPLE_RATE_HZ, Audio

DATA = Path(__file__).parent.parent / "data"
MEETING = DATA / "meeting.flac"
DURATION_S = 226.867

Json = dict[str, Any]


def meeting() -> list[Json]:
    """The sentences of the sample meeting, as segments."""
    said = json.loads((DATA / "meeting.json").read_text("utf-8"))["utterances"]
    return [
        {"index": i, "start": s["start_ms"] / 1000, "end": s["end_ms"] / 1000, "text": s["text"]}
        for i, s in enumerate(said)
    ]


@cache
def samples() -> Audio:
    """The sample meeting."""
    return decode(np.fromfile(MEETING, np.uint8), channel=None, max_duration_s=3600)


@cache
def peaks_of_meeting() -> bytes:
    """The loudest sample of each twentieth of a second, 0 to 255."""
    size = SAMPLE_RATE_HZ // 20
    loud = np.abs(samples()[: len(samples()) // size * size].astype(np.float32)).reshape(-1, size)
    return (loud.max(1) / loud.max() * 255).astype(np.uint8).tobytes()


def words_of(segment: Json) -> list[Json]:
    """A word for each character, spread evenly."""
    start_ms, end_ms = segment["start"] * 1000, segment["end"] * 1000
    each = (end_ms - start_ms) / len(segment["text"])
    return [
        {"text": c, "start_ms": int(start_ms + i * each), "end_ms": int(start_ms + (i + 1) * each)}
        for i, c in enumerate(segment["text"])
        if c not in "，。？"
    ]
