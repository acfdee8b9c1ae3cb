"""VAD, ASR and punctuation over many recordings at once, in one process and without Ray.

The engines, the packing (`pack`) and the halving of batches that are out of memory (`ChunkRunner`)
are the service's own. A stage begins when the one before is done with all recordings, so that each
stage can be timed.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np

from cluster.profiles import known_card
from deployments.config import Pool
from deployments.core.batching import pack, worthwhile_slack_ms
from deployments.core.chunks import Chunk, ChunkRunner
from deployments.core.punctuating import GrowingDocument
from deployments.core.segments import Answer, merge, plan_segments, segment_audio
from deployments.core.types import (
    SAMPLES_PER_MS,
    Audio,
    Hints,
    Recognition,
    Segment,
    Span,
    Word,
)
from deployments.engines.calibration import cuda_budget_ms
from deployments.engines.ct_transformer.engine import CtTransformer
from deployments.engines.fsmn_vad.engine import FsmnVad
from deployments.engines.half import card_name
from deployments.engines.paraformer.engine import Paraformer
from deployments.engines.protocols import EngineSettings

NO_HINTS = Hints()


@dataclass(frozen=True, slots=True)
class Setup:
    """The settings of one process; can be sent to another process."""

    models: Path  # asr/, vad/ and punc/
    device: str
    dtype: str  # of the ASR
    batch_audio_s: float
    vad_together: int  # recordings in a step of the VAD
    num_threads: int = 1
    memory_fraction: float | None = None

    @property
    def settings(self) -> EngineSettings:
        """The settings of VAD and punctuation, which run in fp32."""
        return EngineSettings(
            device=self.device,
            num_threads=self.num_threads,
            memory_fraction=self.memory_fraction,
        )


@dataclass(frozen=True, slots=True)
class Run:
    """The times and results of one pass over all recordings."""

    audio_s: float
    speech_s: float
    padded_s: float
    vad_s: float
    asr_s: float
    punctuation_s: float
    wall_s: float  # the stages and the work between them
    segments: list[list[Segment]]
    spoken: list[list[Word]]  # the words of each recording, without marks
    words: list[list[Word]]  # the same words with their marks
    n_failed: int
    n_batches: int
    n_out_of_memory: int


class Pipeline:
    """The three engines, loaded once."""

    def __init__(self, setup: Setup) -> None:
        """Raises ModelUnavailable."""
        self.setup = setup
        self.vad = FsmnVad(setup.models / "vad", setup.settings)
        self.asr = Paraformer(setup.models / "asr", replace(setup.settings, dtype=setup.dtype))
        self.punctuation = CtTransformer(setup.models / "punc", setup.settings)
        self.calibrated_ms = cuda_budget_ms(
            self.asr, replace(setup.settings, dtype=setup.dtype), setup.models / "calibration"
        )

    def runner(self) -> ChunkRunner:
        """A runner as in a replica, with the replica's budget."""
        made = ChunkRunner(
            self.asr.transcribe,
            engine="asr",
            replica="",
            memory_ms=self.calibrated_ms,
            copy_in=self.asr.copy_in if self.setup.device == "cuda" else None,
        )
        made.allow(round(self.setup.batch_audio_s * 1000), slack_ms=slack_ms(self.setup.device))
        return made

    def run(self, audios: Sequence[Audio]) -> Run:
        """Runs all recordings through all stages."""
        began_s = time.perf_counter()
        spans = self.detect(audios)
        heard_s = time.perf_counter()
        longest_ms = self.asr.info.max_segment_ms
        segments = [
            plan_segments(found, audio, max_segment_ms=longest_ms)
            for found, audio in zip(spans, audios, strict=True)
        ]
        runner = self.runner()
        planned_s = time.perf_counter()
        read, padded_ms = transcribe(runner, audios, segments)
        read_s = time.perf_counter()
        transcripts = [
            merge(own, {s.index: Answer(r) for s, r in zip(own, found, strict=True)})
            for own, found in zip(segments, read, strict=True)
        ]
        merged_s = time.perf_counter()
        spoken = [[word for segment in own for word in segment.words] for own in transcripts]
        words = self.punctuate(spoken)
        ended_s = time.perf_counter()
        return Run(
            audio_s=sum(map(len, audios)) / SAMPLES_PER_MS / 1000,
            speech_s=sum(s.n_ms for own in segments for s in own) / 1000,
            padded_s=padded_ms / 1000,
            vad_s=heard_s - began_s,
            asr_s=read_s - planned_s,
            punctuation_s=ended_s - merged_s,
            wall_s=ended_s - began_s,
            segments=segments,
            spoken=spoken,
            words=words,
            n_failed=sum(r.error is not None for found in read for r in found),
            n_batches=runner.n_batches,
            n_out_of_memory=runner.n_out_of_memory,
        )

    def detect(self, audios: Sequence[Audio]) -> list[list[Span]]:
        """The speech of each recording. Several recordings share a step, as in the service."""
        spans: list[list[Span]] = [[] for _ in audios]
        scans = [self.vad.scan(audio) for audio in audios]
        waiting = list(range(len(audios)))
        while waiting:
            some = waiting[: self.setup.vad_together]
            for index, found in zip(some, self.vad.advance([scans[i] for i in some]), strict=True):
                spans[index] += found
            waiting = [i for i in waiting if not scans[i].finished]
        return spans

    def punctuate(self, spoken: Sequence[Sequence[Word]]) -> list[list[Word]]:
        """The words of each recording with their marks, from one call for all documents."""
        documents = [GrowingDocument() for _ in spoken]
        tasks = [d.task(words, final=True) for d, words in zip(documents, spoken, strict=True)]
        steps = self.punctuation.punctuate(tasks)
        return [list(d.absorb(step)) for d, step in zip(documents, steps, strict=True)]


def transcribe(
    runner: ChunkRunner, audios: Sequence[Audio], segments: Sequence[Sequence[Segment]]
) -> tuple[list[list[Recognition]], int]:
    """Each recording's recognitions, and the padded milliseconds that were read.

    As in a replica, segments of all recordings share batches, and a call holds as much as fits into
    one budget. While a call runs, the first batch of the next call is copied to the device.
    """
    pieces = [
        segment_audio(audio, segment)
        for audio, own in zip(audios, segments, strict=True)
        for segment in own
    ]
    recognitions: dict[int, Recognition] = {}
    padded_ms = 0
    calls = calls_of(pieces, runner.budget_ms)
    chunks = [[chunk_of([pieces[i]]) for i in call] for call in calls]
    coming = runner.prepare(chunks[0]) if chunks else []
    for k, call in enumerate(calls):
        running, coming = coming, runner.prepare(chunks[k + 1]) if k + 1 < len(calls) else []
        results = runner.run(running)
        recognitions.update((i, one.recognitions[0]) for i, one in zip(call, results, strict=True))
        padded_ms += sum(one.padded_ms for one in results)
    of_all = (recognitions[i] for i in range(len(pieces)))
    return [list(islice(of_all, len(own))) for own in segments], padded_ms


def calls_of(pieces: Sequence[Audio], budget_ms: int) -> list[list[int]]:
    """Indices of the pieces in calls that a replica accepts: with any padding within the budget."""
    lengths_ms = [len(piece) // SAMPLES_PER_MS for piece in pieces]
    return pack(lengths_ms, budget_ms=budget_ms, slack_ms=budget_ms)


def slack_ms(device: str) -> int:
    """The padding that a replica accepts in a batch, by the speed that its card should have."""
    expected = Pool()
    card = known_card(card_name()) if device == "cuda" else None
    speed = expected.speed if card is None else card.speed
    return worthwhile_slack_ms(expected.overhead_ms, speed)


def batches_of(pieces: Sequence[Audio], runner: ChunkRunner) -> list[list[int]]:
    """Indices of the pieces in the batches that the runner makes in one call."""
    lengths_ms = [len(piece) // SAMPLES_PER_MS for piece in pieces]
    return pack(lengths_ms, budget_ms=runner.budget_ms, slack_ms=runner.slack_ms)


def chunk_of(pieces: Sequence[Audio]) -> Chunk:
    """The pieces as one chunk, in the form in which a replica gets them."""
    return Chunk(np.concatenate(pieces), tuple(len(piece) for piece in pieces), NO_HINTS)
