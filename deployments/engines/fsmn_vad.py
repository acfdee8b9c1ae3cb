"""FSMN-VAD: FunASR's network and its rule for speech, in bounded memory and one compiled pass.

The spans are those of `AutoModel(model=DIR, max_end_silence_time=800,
max_single_segment_time=30000).generate(...)`. Both must be given to its constructor: else FunASR
ignores the second, and replaces the first by a schedule that depends on where its one-minute
chunks begin. Digital silence, on which FunASR takes the logarithm of zero, is silence here.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deployments.core.errors import ModelUnavailable
from deployments.core.types import SAMPLES_PER_MS, Audio, Span
from deployments.engines.checkpoint import load_checkpoint
from deployments.engines.device import ONLY_FP32, prepare
from deployments.engines.endpointing import Rule, find_spans
from deployments.engines.features import (
    CHUNK_FRAMES,
    FRAME_SAMPLES,
    SHIFT_SAMPLES,
    Fbank,
    count_frames,
    normalise,
)
from deployments.engines.protocols import EngineSettings

MAX_END_SILENCE_MS = 800
MAX_SEGMENT_MS = 30_000
STACK = 5  # frames seen at a time by the network
CONTEXT = STACK // 2
SAMPLE_SCALE = np.float32(1 / 32768)


class FsmnVad:
    """Finds the speech in a recording of any length."""

    def __init__(self, model_dir: Path, settings: EngineSettings) -> None:
        """Raises ModelUnavailable where the directory or the settings cannot be used."""
        self._device = prepare(settings, ONLY_FP32)
        checkpoint = load_checkpoint(model_dir, settings.name, classes=("FsmnVADStreaming",))
        if (checkpoint.lfr_m, checkpoint.lfr_n) != (STACK, 1):
            raise ModelUnavailable(settings.name, f"its features must be stacked {STACK}/1.")
        self._encoder = checkpoint.model.encoder.to(self._device)
        self._cmvn = None if checkpoint.cmvn is None else checkpoint.cmvn.to(self._device)
        self._fbank = Fbank(settings.device)
        options = checkpoint.model.vad_opts
        self._silence_ids = list(options.sil_pdf_ids)
        self._rule = Rule.from_options(
            options, max_end_silence_ms=MAX_END_SILENCE_MS, max_segment_ms=MAX_SEGMENT_MS
        )

    @torch.inference_mode()
    def detect(self, audio: Audio) -> list[Span]:
        """Where speech is: sorted, no overlap, inside the audio; none is longer than 30 s."""
        if not count_frames(len(audio)):
            return []
        silence = np.concatenate(list(self._silence_probability(audio)))
        spans = find_spans(silence, decibels(audio), self._rule)
        end_ms = len(audio) // SAMPLES_PER_MS
        return [Span(min(start, end_ms), min(end, end_ms)) for start, end in spans]

    def _silence_probability(self, audio: Audio) -> Iterator[NDArray[np.float64]]:
        """P(silence) of each 10 ms frame, chunk by chunk.

        The network sees two frames ahead, and far back through the cache of its memory blocks.
        """
        memory: dict[str, Tensor] = {}
        for window in with_context(self._fbank.chunks(audio, chunk_frames=CHUNK_FRAMES)):
            stacked = window.unfold(0, STACK, 1).permute(0, 2, 1).flatten(1)
            scores = self._encoder(normalise(stacked, self._cmvn)[None], cache=memory)
            yield scores[0, :, self._silence_ids].double().sum(-1).cpu().numpy()


def with_context(chunks: Iterator[Tensor]) -> Iterator[Tensor]:
    """The chunks with two frames of their neighbours on both sides, the edges repeated."""
    held: Tensor | None = None
    for chunk in chunks:
        held = chunk[:1].expand(CONTEXT, -1) if held is None else held
        held = torch.cat([held, chunk])
        if len(held) >= STACK:
            yield held
            held = held[-2 * CONTEXT :]
    if held is not None:
        yield torch.cat([held, held[-1:].expand(CONTEXT, -1)])


def decibels(audio: Audio) -> NDArray[np.float64]:
    """The energy of each frame, (n_frames,), as FunASR's `ComputeDecibel`."""
    n_frames = count_frames(len(audio))
    energies = np.empty(n_frames)
    for first in range(0, n_frames, CHUNK_FRAMES):
        last = min(n_frames, first + CHUNK_FRAMES)
        piece = audio[first * SHIFT_SAMPLES : (last - 1) * SHIFT_SAMPLES + FRAME_SAMPLES]
        samples = piece.astype(np.float32) * SAMPLE_SCALE
        frames = np.lib.stride_tricks.sliding_window_view(samples, FRAME_SAMPLES)[::SHIFT_SAMPLES]
        energies[first:last] = 10 * np.log10(np.sum(np.square(frames), axis=1) + 0.000001)
    return energies
