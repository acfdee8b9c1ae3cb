"""Engines without a model, for tests of the graph: fast, exact, and telling.

Each result is a function of its own input alone, and shows it: a mix-up of order, a sample of
padding or a lost segment changes the text. No torch here.
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

WORD_MS = 200  # a character for each stretch of this length
N_CHARACTERS = 5000
FRAME_MS = 10
SPEECH_RMS = 200.0  # of int16 samples
MIN_PAUSE_MS = 300  # a shorter one does not end a span
MAX_SPAN_MS = 30_000
COMMA_WORDS, SENTENCE_WORDS = 7, 21
SLOW_SPEED = 5.0  # audio seconds a second and thread, of FakeSlowAsr
PAGE_SAMPLES = 2048  # of 4096 bytes
POISON = np.int16(-32_768)  # a segment that holds this sample cannot be recognised


class FakeAsr:
    """The number of samples, then a character for each 200 ms that is a checksum of its samples."""

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
        """One recognition per item; silence, and less than 200 ms, is empty.

        Hotwords stand before the rest, so that a batch of mixed requests is visible. Raises
        EngineFailed for the whole batch where an item holds POISON.
        """
        if any((audio == POISON).any() for audio in batch):
            raise EngineFailed("The batch holds a poisoned segment.")
        return [recognise(audio, hints) for audio in batch]


class FakeSlowAsr(FakeAsr):
    """The same results after a while, as of a machine of known speed."""

    def __init__(self, model_dir: Path, settings: EngineSettings) -> None:
        super().__init__(model_dir, settings)
        self._speed = SLOW_SPEED * settings.num_threads

    def transcribe(self, batch: Sequence[Audio], hints: Hints) -> list[Recognition]:
        """As FakeAsr, SLOW_SPEED audio seconds a second for each thread of the settings."""
        audio_s = sum(len(audio) for audio in batch) / SAMPLES_PER_MS / 1000
        time.sleep(audio_s / self._speed)
        return super().transcribe(batch, hints)


class FakeTimedAsr(FakeAsr):
    """A sleeping GPU: a batch takes the time that the request's prompt says, and no work."""

    def __init__(self, model_dir: Path, settings: EngineSettings) -> None:
        super().__init__(model_dir, settings)
        self.info = replace(self.info, has_word_times=False, hints=("prompt",))
        self._kind = str(settings.num_threads)

    def transcribe(self, batch: Sequence[Audio], hints: Hints) -> list[Recognition]:
        """Texts by `fingerprint`, after [overhead_ms, audio seconds per second] of its kind.

        The prompt is JSON, {kind: [overhead_ms, speed]}; an engine's kind is its `num_threads`.
        """
        began_s = time.monotonic()
        overhead_ms, speed = json.loads(hints.prompt or "")[self._kind]
        padded_ms = len(batch) * max(len(audio) for audio in batch) / SAMPLES_PER_MS
        heard = [Recognition(fingerprint(audio)) for audio in batch]
        took_s = (overhead_ms + padded_ms / speed) / 1000
        time.sleep(max(0.0, began_s + took_s - time.monotonic()))
        return heard


def fingerprint(audio: Audio) -> str:
    """Tells segments apart at little cost: length, and the sum of one sample of every page."""
    return f"{len(audio)} {int(audio[::PAGE_SAMPLES].sum(dtype=np.int64))}"


class FakePlainAsr(FakeAsr):
    """The same texts from an engine like Whisper: marks of its own, no word times."""

    def __init__(self, model_dir: Path, settings: EngineSettings) -> None:
        super().__init__(model_dir, settings)
        self.info = replace(self.info, has_word_times=False, punctuates=True, hints=("prompt",))

    def transcribe(self, batch: Sequence[Audio], hints: Hints) -> list[Recognition]:
        """As FakeAsr, each text with a full stop and nothing else."""
        heard = super().transcribe(batch, Hints())
        return [Recognition(one.text and f"{one.text}。") for one in heard]


def recognise(audio: Audio, hints: Hints) -> Recognition:
    """What FakeAsr hears in a segment."""
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
    return Recognition(join_words(words), words)


def character(stretch: Audio) -> str:
    """A Chinese character that stands for these samples."""
    return chr(0x4E00 + zlib.crc32(stretch.tobytes()) % N_CHARACTERS)


class FakeVad:
    """Speech is what is loud."""

    def __init__(self, model_dir: Path, settings: EngineSettings) -> None:
        pass

    def detect(self, audio: Audio) -> list[Span]:
        """Loud stretches on a 10 ms grid, joined over pauses under 300 ms, cut at 30 s."""
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
        """Found at once, given out one by one."""
        return FakeScan(self.detect(audio))

    def advance(self, scans: Sequence[FakeScan]) -> list[list[Span]]:
        """The next span of each."""
        return [[scan.left.pop(0)] if scan.left else [] for scan in scans]


@dataclass(slots=True)
class FakeScan:
    """What FakeVad has not given out yet."""

    left: list[Span]

    @property
    def finished(self) -> bool:
        """Whether all of it was given out."""
        return not self.left


class FakePunctuation:
    """A comma behind every 7th word, a full stop behind every 21st and the last."""

    def __init__(self, model_dir: Path, settings: EngineSettings) -> None:
        pass

    def punctuate(self, batch: Sequence[PunctuationTask]) -> list[PunctuationStep]:
        """One step per task, the same marks however the words were split over the steps."""
        return [punctuate(task) for task in batch]


def punctuate(task: PunctuationTask) -> PunctuationStep:
    """What FakePunctuation makes of one document."""
    words = task.carry + task.words
    n_done = len(words) if task.final else len(words) // SENTENCE_WORDS * SENTENCE_WORDS
    n_read = n_done + (len(words) - n_done) // COMMA_WORDS * COMMA_WORDS
    done = [
        MarkedWord(text, mark_behind(i, n_done), space=spaced(i, words))
        for i, text in enumerate(words[:n_done])
    ]
    return PunctuationStep(tuple(done), words[n_done:n_read], words[n_read:])


def mark_behind(index: int, n_words: int) -> str:
    """The mark behind the word at `index`, counted from the start of a sentence."""
    if (index + 1) % SENTENCE_WORDS == 0 or index == n_words - 1:
        return "。"
    return "，" if (index + 1) % COMMA_WORDS == 0 else ""


def spaced(index: int, words: Sequence[str]) -> bool:
    """Whether a space stands before a word: between foreign words of one sentence."""
    neighbours = words[index - 1 : index + 1]
    return index % SENTENCE_WORDS > 0 and all(word[:1].isascii() for word in neighbours)
