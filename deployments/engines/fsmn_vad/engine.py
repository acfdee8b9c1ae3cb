"""FSMN-VAD: FunASR's network and endpointing, in bounded memory, with spans as soon as they end.

The spans are those of `AutoModel(model=DIR, max_end_silence_time=800,
max_single_segment_time=30000).generate(...)`. In FunASR both options must be given to the
constructor. Otherwise FunASR ignores the second, and replaces the first by a schedule that depends
on where its one-minute chunks begin. On all-zero audio FunASR takes the logarithm of zero. Here
such audio is silence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deployments.core.errors import ModelUnavailable
from deployments.core.types import SAMPLES_PER_MS, Audio, Span
from deployments.engines.checkpoint import load_checkpoint
from deployments.engines.device import ONLY_FP32, prepare, translated
from deployments.engines.features import N_MELS, Fbank, count_frames
from deployments.engines.fsmn_vad.endpointing import Endpointer, Rule
from deployments.engines.fsmn_vad.features import (
    NEIGHBOURS,
    STACK,
    VadFeatures,
    decibels,
    frames_audio,
)
from deployments.engines.fsmn_vad.network import FsmnNetwork
from deployments.engines.packed import to_device
from deployments.engines.protocols import EngineSettings

MAX_END_SILENCE_MS = 800
MAX_SEGMENT_MS = 30_000
# Frames in a step, over all of its recordings. On a CPU a step of this size stays in the cache, and
# a short recording that arrives during a step waits for about 20 ms. A GPU needs more at once.
STEP_FRAMES = {"cpu": 2000, "cuda": 24_000}
LEAST_FRAMES = 500  # of one recording in a step; with fewer, the left context is a large part


@dataclass(slots=True, eq=False)
class FsmnScan:
    """How far one recording was read, and its endpointing state. Holds no features or scores."""

    audio: Audio
    n_frames: int
    endpointer: Endpointer
    at: int = 0  # the next frame

    @property
    def finished(self) -> bool:
        """Whether every frame was read."""
        return self.at >= self.n_frames


@dataclass(frozen=True, slots=True)
class Stretch:
    """The frames of a scan from `first` up to, but without, `last`."""

    scan: FsmnScan
    first: int
    last: int


class FsmnVad:
    """Finds the spans of speech in recordings of any length."""

    def __init__(
        self, model_dir: Path, settings: EngineSettings, *, at_once: bool | None = None
    ) -> None:
        """Raises ModelUnavailable if the directory or the settings cannot be used.

        `at_once` says whether the features of a step are computed in few and large operations.
        None chooses what is best for the device. Tests set it, to run a GPU's code on a CPU.
        """
        self._device = prepare(settings, ONLY_FP32)
        checkpoint = load_checkpoint(model_dir, settings.name, classes=("FsmnVADStreaming",))
        if (checkpoint.lfr_m, checkpoint.lfr_n) != (STACK, 1):
            raise ModelUnavailable(settings.name, f"its features must be stacked {STACK}/1.")
        try:
            self.network = FsmnNetwork(checkpoint.model.encoder, checkpoint.cmvn, self._device)
        except ValueError as error:
            raise ModelUnavailable(settings.name, f"{error}.") from error
        self.features = VadFeatures(self._device)
        self._at_once = settings.device == "cuda" if at_once is None else at_once
        self._fbank = Fbank(settings.device)
        options = checkpoint.model.vad_opts
        self._silence_ids = list(options.sil_pdf_ids)
        self.rule = Rule.from_options(
            options, max_end_silence_ms=MAX_END_SILENCE_MS, max_segment_ms=MAX_SEGMENT_MS
        )
        self._step_frames = STEP_FRAMES[self._device.type]

    def detect(self, audio: Audio) -> list[Span]:
        """The spans of speech: sorted, without overlap, inside the audio, none longer than 30 s."""
        scan, spans = self.scan(audio), list[Span]()
        while not scan.finished:
            spans += self.advance([scan])[0]
        return spans

    def scan(self, audio: Audio) -> FsmnScan:
        """A scan at the beginning of the recording, for `advance` to read."""
        return FsmnScan(audio, count_frames(len(audio)), Endpointer(self.rule))

    @torch.inference_mode()
    def advance(self, scans: Sequence[FsmnScan]) -> list[list[Span]]:
        """Reads a piece of every scan that is not finished, all of them in one batch.

        Returns for each scan the spans that ended in its piece. They are final and in order of
        time. Over a whole scan they are the spans of `detect`, whatever else is read with it.
        Raises OutOfMemory or EngineFailed; then no scan has moved.
        """
        each = max(LEAST_FRAMES, self._step_frames // max(1, len(scans)))
        stretches = [
            Stretch(scan, scan.at, min(scan.n_frames, scan.at + each))
            for scan in scans
            if not scan.finished
        ]
        found: dict[int, list[Span]] = {}
        for stretch, silence in zip(stretches, self._silence_probability(stretches), strict=True):
            found[id(stretch.scan)] = _spans(stretch, silence)
            stretch.scan.at = stretch.last
        return [found.get(id(scan), []) for scan in scans]

    @translated("FSMN-VAD")
    def _silence_probability(self, stretches: Sequence[Stretch]) -> list[NDArray[np.float64]]:
        """P(silence) of each frame of each stretch, computed in one matrix."""
        if not stretches:
            return []
        context = self.network.context
        rows, void = self._together(stretches) if self._at_once else self._in_turn(stretches)
        lengths = [stretch.last - stretch.first for stretch in stretches]
        ends = np.cumsum([context + length for length in lengths]).tolist()
        scores = self.network(rows, void)[:, self._silence_ids].double().sum(-1).cpu().numpy()
        return [
            scores[end - length - context : end - context]
            for length, end in zip(lengths, ends, strict=True)
        ]

    def _in_turn(self, stretches: Sequence[Stretch]) -> tuple[Tensor, list[slice]]:
        """The network's input, and its context rows that lie before a recording's beginning.

        The features are computed for one stretch after another.
        """
        context = self.network.context
        lengths = [stretch.last - stretch.first for stretch in stretches]
        ends = np.cumsum([context + length for length in lengths]).tolist()
        rows = torch.empty(ends[-1], STACK * N_MELS, device=self._device)
        void: list[slice] = []
        for stretch, length, end in zip(stretches, lengths, ends, strict=True):
            known = min(context, stretch.first)
            rows[end - length - known : end] = self.features.stacked(
                stretch.scan.audio, stretch.first - known, stretch.last, stretch.scan.n_frames
            )
            if known < context:
                void.append(slice(end - length - context, end - length - known))
                rows[void[-1]] = 0
        return rows, void

    def _together(self, stretches: Sequence[Stretch]) -> tuple[Tensor, list[slice]]:
        """As `_in_turn`, with one copy to the device and a fixed number of operations on it."""
        context = self.network.context
        pieces, places, void = list[Audio](), list[NDArray[np.int64]](), list[slice]()
        n_mel = n_rows = 0
        for stretch in stretches:
            n_frames = stretch.scan.n_frames
            known = min(context, stretch.first)
            begin = max(0, stretch.first - known - NEIGHBOURS)
            end = min(n_frames, stretch.last + NEIGHBOURS)
            pieces.append(frames_audio(stretch.scan.audio, begin, end))
            wanted = np.arange(stretch.first - context, stretch.last)[:, None]
            beside = wanted + np.arange(-NEIGHBOURS, NEIGHBOURS + 1)
            # Frames before the recording are void; the first frame stands in for them here.
            places.append(np.clip(beside, begin, end - 1) - begin + n_mel)
            if known < context:
                void.append(slice(n_rows, n_rows + context - known))
            n_mel += end - begin
            n_rows += len(wanted)
        mel = self._fbank.gathered(pieces, chunk_frames=max(STEP_FRAMES.values()))
        index = to_device(torch.from_numpy(np.concatenate(places)), self._device)
        rows = mel[index].flatten(1)
        for nothing in void:
            rows[nothing] = 0
        return rows, void


def _spans(stretch: Stretch, silence: NDArray[np.float64]) -> list[Span]:
    """The spans that end in the stretch."""
    scan = stretch.scan
    energy = decibels(frames_audio(scan.audio, stretch.first, stretch.last))
    final = stretch.last == scan.n_frames
    end_ms = len(scan.audio) // SAMPLES_PER_MS
    return [
        Span(min(start, end_ms), min(end, end_ms))
        for start, end in scan.endpointer.feed(silence, energy, final=final)
    ]
