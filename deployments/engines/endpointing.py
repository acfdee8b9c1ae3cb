"""FSMN-VAD's decision: from P(silence) of each frame to spans of speech, one compiled pass.

A window over the last 20 frames smooths the decisions; speech starts where the window fills, and
ends after enough silence or at the longest segment. Equal to the state machine of
`funasr/models/fsmn_vad_streaming/model.py` (1.4.16) with `detect_mode=1` and a fixed end silence.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from deployments.engines.compiled import compiled

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Rule:
    """The thresholds; counts are frames of `frame_ms`."""

    frame_ms: int
    max_segment_frames: float
    end_silence_ms: int  # of silence after the window has turned silent
    window_frames: int
    speech_frames: int  # in the window, for speech to start
    silence_frames: int  # at most this many of speech in the window, for speech to end
    lookback_frames: int
    lookahead_frames: int
    threshold: float  # by which P(speech) must exceed P(silence)
    noise_ratio: float
    min_decibel: float
    min_snr: float
    noise_frames: int

    @classmethod
    def from_options(cls, options: Any, *, max_end_silence_ms: int, max_segment_ms: int) -> Rule:
        """The rule in a FunASR model's `VADXOptions`, with the two limits that we set."""
        frame_ms = options.frame_in_ms
        return cls(
            frame_ms=frame_ms,
            max_segment_frames=max_segment_ms / frame_ms,
            end_silence_ms=max_end_silence_ms - options.speech_to_sil_time_thres,
            window_frames=int(options.window_size_ms / frame_ms),
            speech_frames=int(options.sil_to_speech_time_thres / frame_ms),
            silence_frames=int(options.speech_to_sil_time_thres / frame_ms),
            lookback_frames=int(options.lookback_time_start_point / frame_ms),
            lookahead_frames=int(options.lookahead_time_end_point / frame_ms),
            threshold=options.speech_noise_thres,
            noise_ratio=options.speech_2_noise_ratio,
            min_decibel=options.decibel_thres,
            min_snr=options.snr_thres,
            noise_frames=options.noise_frame_num_used_for_snr,
        )


def find_spans(silence: Floats, decibel: Floats, rule: Rule) -> list[tuple[int, int]]:
    """Start and end in ms of each span of speech; both arrays are (n_frames,)."""
    is_speech = _classify(
        silence,
        decibel,
        rule.threshold,
        rule.noise_ratio,
        rule.min_decibel,
        rule.min_snr,
        rule.noise_frames,
    )
    frames = _walk(
        is_speech,
        rule.window_frames,
        rule.speech_frames,
        rule.silence_frames,
        rule.window_frames + rule.lookback_frames,
        rule.lookahead_frames,
        rule.end_silence_ms / rule.frame_ms,
        rule.max_segment_frames,
    )
    return [(start * rule.frame_ms, end * rule.frame_ms) for start, end in frames.tolist()]


@compiled
def _classify(
    silence: Floats,
    decibel: Floats,
    threshold: float,
    noise_ratio: float,
    min_decibel: float,
    min_snr: float,
    noise_frames: int,
) -> Ints:
    """1 for each frame that is speech, looked at alone; (n_frames,)."""
    is_speech = np.zeros(len(silence), np.int64)
    noise_decibel = -100.0
    for i in range(len(silence)):
        if decibel[i] < min_decibel:
            continue
        # through the logarithm and back, as FunASR: it decides ties. log(0) is -inf here.
        p_speech = math.exp(math.log(1.0 - silence[i]))
        p_silence = math.exp(math.log(silence[i]) * noise_ratio)
        if p_speech >= p_silence + threshold:
            if decibel[i] - noise_decibel >= min_snr:
                is_speech[i] = 1
        elif noise_decibel < -99.9:
            noise_decibel = decibel[i]
        else:
            noise_decibel = (decibel[i] + noise_decibel * (noise_frames - 1)) / noise_frames
    return is_speech


@compiled
def _walk(
    is_speech: Ints,
    window_frames: int,
    speech_frames: int,
    silence_frames: int,
    latency_frames: int,
    lookahead_frames: int,
    end_silence_frames: float,
    max_segment_frames: float,
) -> Ints:
    """First frame, and frame after the last, of each span; (n_spans, 2)."""
    n_frames = len(is_speech)
    spans = np.empty((n_frames + 1, 2), np.int64)
    count = 0
    window = np.zeros(window_frames, np.int64)
    in_window, heard = 0, False  # speech frames in the window, and what it last turned to
    start, free_from, silent_run = -1, 0, 0
    for i in range(n_frames):
        slot = i % window_frames
        in_window += is_speech[i] - window[slot]
        window[slot] = is_speech[i]
        turns_speech = not heard and in_window >= speech_frames
        turns_silent = heard and in_window <= silence_frames
        heard = turns_speech or (heard and not turns_silent)
        silent_run = 0 if heard or turns_silent else silent_run + 1

        end = -1
        if start < 0:
            if not turns_speech:
                continue
            start = max(free_from, i - latency_frames)
        elif silent_run >= end_silence_frames:
            end = i - max(0, int(end_silence_frames) - lookahead_frames - 1)
        elif i - start + 1 > max_segment_frames:
            end = i
        if end < 0 and i == n_frames - 1:
            end = i
        if end >= 0:
            spans[count, 0], spans[count, 1] = start, end + 1
            count += 1
            free_from, start = end + 1, -1
            window[:] = 0
            in_window, heard, silent_run = 0, False, 0
    return spans[:count]
