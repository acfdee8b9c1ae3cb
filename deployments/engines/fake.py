"""Engines without a model, for tests of everything around an engine. They do not import torch.

Each result depends on its own input alone and shows it. A swapped order, one sample of padding or a
lost segment changes the text.
"""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from deployments.core.errors import EngineFailed
from deployments.core.text import join_words, space_words
from deployments.core.types import (
    SAMPLES_PER_MS,
    Audio,
    EngineInfo,
    Hints,
    MarkedWord,
    PunctuationStep,
    PunctuationTask,
    Recognition,
    Span,
    Word,
)
from deployments.engines.protocols import EngineSettings

WORD_MS = 200  # of audio for each character
N_CHARACTERS = 5000
FRAME_MS = 10
SPEECH_RMS = 200.0  # of int16 samples
MIN_PAUSE_MS = 300  # a shorter pause does not end a span
MAX_SPAN_MS = 30_000
COMMA_WORDS, SENTENCE_WORDS = 7, 21
SLOW_SPEED = 5.0  # of FakeSlowAsr: audio seconds a second, for each thread
PAGE_SAMPLES = 2048  # of 4096 bytes
POISON = np.int16(-32_768)  # a segment that holds this sample cannot be recognised


class FakeAsr:
    """Hears the number of samples, then for each 200 ms a character that is their checksum."""

    def __init__(self, model_dir: Path, settings: EngineSettings) -> None:
        self.info = EngineInfo(
            name=settings.name,
            device=settings.device,
            dtype=settings.dtype,
            has_word_times=True,
            punctuates=False,
            max_segment_ms=MAX_SPAN_MS,
            hints=("hotwords",),
        )

    def transcribe(self, batch: Sequence[Audio], hints: Hints) -> list[Recognition]:
        """One recognition per item; empty for silence and for less than 200 ms.

        The request's hotwords come first in the text, so that a batch with segments of different
        requests shows. Raises EngineFailed for the whole batch if an item holds POISON.
        """
        if any((audio == POISON).any() for audio in batch):
            raise EngineFailed("The batch holds a poisoned segment.")
        return [recognise(audio, hints) for audio in batch]


class FakeSlowAsr(FakeAsr):
    """FakeAsr at a known speed: it sleeps before it answers."""

    def __init__(self, model_dir: Path, settings: EngineSettings) -> None:
        super().__init__(model_dir, settings)
        self._speed = SLOW_SPEED * settings.num_threads

    def transcribe(self, batch: Sequence[Audio], hints: Hints) -> list[Recognition]:
        """As FakeAsr, at SLOW_SPEED audio seconds a second for each thread of the settings."""
        audio_s = sum(len(audio) for audio in batch) / SAMPLES_PER_MS / 1000
        time.sleep(audio_s / self._speed)
        return super().transcribe(batch, hints)


class FakeTimedAsr(FakeAsr):
    """Stands for a GPU: it sleeps for the time that the request's prompt gives."""

    def __init__(self, model_dir: Path, settings: EngineSettings) -> None:
        super().__init__(model_dir, settings)
        self.info = replace(self.info, has_word_times=False, hints=("prompt",))
        self._kind = str(settings.num_threads)

    def transcribe(self, batch: Sequence[Audio], hints: Hints) -> list[Recognition]:
        """The `fingerprint` of each item, after a sleep of the overhead plus padded audio / speed.

        The prompt is JSON, {kind: [overhead_ms, speed]}; the speed is in audio seconds a second.
        An engine's kind is its `num_threads`.
        """
        began_s = time.monotonic()
        overhead_ms, speed = json.loads(hints.prompt or "")[self._kind]
        padded_ms = len(batch) * max(len(audio) for audio in batch) / SAMPLES_PER_MS
        heard = [Recognition(fingerprint(audio)) for audio in batch]
        took_s = (overhead_ms + padded_ms / speed) / 1000
        time.sleep(max(0.0, began_s + took_s - time.monotonic()))
        return heard


def fingerprint(audio: Audio) -> str:
    """A cheap text that tells segments apart: the length, and the sum of one sample per page."""
    return f"{len(audio)} {int(audio[::PAGE_SAMPLES].sum(dtype=np.int64))}"


class FakePlainAsr(FakeAsr):
    """FakeAsr with the abilities of Whisper: punctuation of its own, no word times."""

    def __init__(self, model_dir: Path, settings: EngineSettings) -> None:
        super().__init__(model_dir, settings)
        self.info = replace(self.info, has_word_times=False, punctuates=True, hints=("prompt",))

    def transcribe(self, batch: Sequence[Audio], hints: Hints) -> list[Recognition]:
        """The texts of FakeAsr, each with a full stop at its end. Hints are ignored."""
        heard = super().transcribe(batch, Hints())
        return [Recognition(one.text and f"{one.text}。") for one in heard]


def recognise(audio: Audio, hints: Hints) -> Recognition:
    """The recognition that FakeAsr gives for a segment."""
    n_words = len(audio) // (WORD_MS * SAMPLES_PER_MS)
    if not n_words or not audio.any():
        return Recognition("")
    stretches = np.split(audio[: n_words * WORD_MS * SAMPLES_PER_MS], n_words)
    heads = [Word(text, 0, 0) for text in (*hints.hotwords, f"n{len(audio)}")]
    body = [
        Word(character(stretch), i * WORD_MS, (i + 1) * WORD_MS)
        for i, stretch in enumerate(stretches)
    ]
    words = space_words([*heads, *body])
    if not hints.timed:  # as an engine that leaves times out
        words = tuple(replace(word, start_ms=0, end_ms=0) for word in words)
    return Recognition(join_words(words), words)


def character(stretch: Audio) -> str:
    """A Chinese character that stands for these samples."""
    return chr(0x4E00 + zlib.crc32(stretch.tobytes()) % N_CHARACTERS)


class FakeVad:
    """Takes every loud stretch for speech."""

    def __init__(self, model_dir: Path, settings: EngineSettings) -> None:
        pass

    def detect(self, audio: Audio) -> list[Span]:
        """The loud stretches on a 10 ms grid, joined over pauses below 300 ms and cut at 30 s."""
        frame = FRAME_MS * SAMPLES_PER_MS
        frames = audio[: len(audio) // frame * frame].reshape(-1, frame).astype(np.float64)
        loud = np.flatnonzero(np.sqrt(np.square(frames).mean(axis=1)) > SPEECH_RMS) * FRAME_MS
        if not loud.size:
            return []
        gaps = np.flatnonzero(np.diff(loud) > MIN_PAUSE_MS)
        starts = loud[np.concatenate(([0], gaps + 1))].tolist()
        ends = (loud[np.concatenate((gaps, [-1]))] + FRAME_MS).tolist()
        return [
            Span(cut, min(cut + MAX_SPAN_MS, end))
            for start, end in zip(starts, ends, strict=True)
            for cut in range(start, end, MAX_SPAN_MS)
        ]

    def scan(self, audio: Audio) -> FakeScan:
        """Finds all spans at once; `advance` returns them one by one."""
        return FakeScan(self.detect(audio))

    def advance(self, scans: Sequence[FakeScan]) -> list[list[Span]]:
        """The next span of each scan."""
        return [[scan.left.pop(0)] if scan.left else [] for scan in scans]


@dataclass(slots=True)
class FakeScan:
    """The spans that FakeVad has not returned yet."""

    left: list[Span]

    @property
    def finished(self) -> bool:
        """Whether all spans were returned."""
        return not self.left


class FakePunctuation:
    """Puts a comma after every 7th word, and a full stop after every 21st and after the last."""

    def __init__(self, model_dir: Path, settings: EngineSettings) -> None:
        pass

    def punctuate(self, batch: Sequence[PunctuationTask]) -> list[PunctuationStep]:
        """One step per task. The marks do not depend on how the words were split into steps."""
        return [punctuate(task) for task in batch]


def punctuate(task: PunctuationTask) -> PunctuationStep:
    """The step that FakePunctuation returns for one document."""
    words = task.carry + task.words
    n_done = len(words) if task.final else len(words) // SENTENCE_WORDS * SENTENCE_WORDS
    n_read = n_done + (len(words) - n_done) // COMMA_WORDS * COMMA_WORDS
    done = [
        MarkedWord(text, mark_behind(i, n_done), space=spaced(i, words))
        for i, text in enumerate(words[:n_done])
    ]
    return PunctuationStep(tuple(done), words[n_done:n_read], words[n_read:])


def mark_behind(index: int, n_words: int) -> str:
    """The mark after the word at `index`, which is counted from the start of a sentence."""
    if (index + 1) % SENTENCE_WORDS == 0 or index == n_words - 1:
        return "。"
    return "，" if (index + 1) % COMMA_WORDS == 0 else ""


def spaced(index: int, words: Sequence[str]) -> bool:
    """Whether a space precedes a word: only between two foreign words of one sentence."""
    neighbours = words[index - 1 : index + 1]
    return index % SENTENCE_WORDS > 0 and all(word[:1].isascii() for word in neighbours)
