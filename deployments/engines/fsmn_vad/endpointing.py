"""FSMN-VAD's endpointing: from the P(silence) of each frame to spans of speech.

A window over the last 20 frames smooths the decisions. Speech starts when the window holds enough
speech. It ends after enough silence, or when the segment reaches its greatest length. The result
equals that of the state machine in `funasr/models/fsmn_vad_streaming/model.py` (1.4.16) with
`detect_mode=1` and a fixed end silence. Frames may come in pieces of any size. The state between
two pieces is about a hundred bytes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from deployments.engines.compiled import compiled

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]

NO_NOISE_YET = -100.0  # FunASR's value for a noise level that is not known yet


class Rule(NamedTuple):
    """The thresholds, in frames of `frame_ms`. It is a tuple so that compiled code can read it."""

    frame_ms: int
    max_segment_frames: float
    end_silence_frames: float  # of silence, counted after the window turned silent
    window_frames: int
    speech_frames: int  # in the window at which speech starts
    silence_frames: int  # the most speech frames in a window that counts as silent
    lookback_frames: int
    lookahead_frames: int
    threshold: float  # by which P(speech) must exceed P(silence)
    noise_ratio: float
    min_decibel: float
    min_snr: float
    noise_frames: int

    @classmethod
    def from_options(cls, options: Any, *, max_end_silence_ms: int, max_segment_ms: int) -> Rule:
        """The rule in a FunASR model's `VADXOptions`, with two limits that are set here."""
        frame_ms = options.frame_in_ms
        end_silence_ms = max_end_silence_ms - options.speech_to_sil_time_thres
        return cls(
            frame_ms=frame_ms,
            max_segment_frames=float(max_segment_ms / frame_ms),
            end_silence_frames=float(end_silence_ms / frame_ms),
            window_frames=int(options.window_size_ms / frame_ms),
            speech_frames=int(options.sil_to_speech_time_thres / frame_ms),
            silence_frames=int(options.speech_to_sil_time_thres / frame_ms),
            lookback_frames=int(options.lookback_time_start_point / frame_ms),
            lookahead_frames=int(options.lookahead_time_end_point / frame_ms),
            threshold=float(options.speech_noise_thres),
            noise_ratio=float(options.speech_2_noise_ratio),
            min_decibel=float(options.decibel_thres),
            min_snr=float(options.snr_thres),
            noise_frames=int(options.noise_frame_num_used_for_snr),
        )


@dataclass(slots=True)
class Carried:
    """The state of the endpointing after the frames read so far."""

    ints: Ints  # in the order in which `_walk` unpacks them
    window: Ints  # a ring buffer of the last frames: 1 for speech, 0 for silence
    noise_decibel: Floats  # (1,)


class Endpointer:
    """The endpointing of one recording. A span that it has returned never changes."""

    def __init__(self, rule: Rule) -> None:
        self._rule = rule
        self._carried = Carried(
            ints=np.array([0, 0, 0, -1, 0, 0], np.int64),
            window=np.zeros(rule.window_frames, np.int64),
            noise_decibel=np.full(1, NO_NOISE_YET),
        )

    def feed(self, silence: Floats, decibel: Floats, *, final: bool) -> list[tuple[int, int]]:
        """Start and end in ms of each span that ended. `final` says that no frame follows.

        Both arrays are (n_frames,), for the frames after those of the last call. P(silence) may be
        0 or 1. FunASR fails there, because it takes the logarithm of zero.
        """
        carried, frame_ms = self._carried, self._rule.frame_ms
        is_speech = _classify(silence, decibel, self._rule, carried.noise_decibel)
        frames = _walk(is_speech, final, self._rule, carried.ints, carried.window)
        return [(start * frame_ms, end * frame_ms) for start, end in frames.tolist()]


@compiled
def _classify(silence: Floats, decibel: Floats, rule: Rule, noise: Floats) -> Ints:
    """1 for each frame that is speech by itself, (n_frames,). `noise` is updated."""
    is_speech = np.zeros(len(silence), np.int64)
    noise_decibel = noise[0]
    for i in range(len(silence)):
        if decibel[i] < rule.min_decibel:
            continue
        # Through the logarithm and back, as in FunASR, because the rounding decides ties. Compiled
        # code gives -inf for log(0).
        p_speech = math.exp(math.log(1.0 - silence[i]))
        p_silence = math.exp(math.log(silence[i]) * rule.noise_ratio)
        if p_speech >= p_silence + rule.threshold:
            if decibel[i] - noise_decibel >= rule.min_snr:
                is_speech[i] = 1
        elif noise_decibel < -99.9:
            noise_decibel = decibel[i]
        else:
            older = noise_decibel * (rule.noise_frames - 1)
            noise_decibel = (decibel[i] + older) / rule.noise_frames
    noise[0] = noise_decibel
    return is_speech


@compiled
def _walk(is_speech: Ints, final: bool, rule: Rule, carried: Ints, window: Ints) -> Ints:
    """The spans that end in these frames, (n_spans, 2): first frame, and frame after the last."""
    spans = np.empty((len(is_speech) + 1, 2), np.int64)
    count = 0
    # `first`: the number of frames read before. `in_window`: the speech frames in the window.
    # `heard_before`: whether the window last turned to speech. `start`: the first frame of the open
    # span, or -1. `free_from`: the first frame after the last span. `silent_run`: the frames since
    # the window turned silent.
    first, in_window, heard_before, start, free_from, silent_run = carried
    heard = heard_before > 0
    for at in range(len(is_speech)):
        i = first + at
        slot = i % rule.window_frames
        in_window += is_speech[at] - window[slot]
        window[slot] = is_speech[at]
        turns_speech = not heard and in_window >= rule.speech_frames
        turns_silent = heard and in_window <= rule.silence_frames
        heard = turns_speech or (heard and not turns_silent)
        silent_run = 0 if heard or turns_silent else silent_run + 1

        end = -1
        if start < 0:
            if not turns_speech:
                continue
            start = max(free_from, i - rule.window_frames - rule.lookback_frames)
        elif silent_run >= rule.end_silence_frames:
            end = i - max(0, int(rule.end_silence_frames) - rule.lookahead_frames - 1)
        elif i - start + 1 > rule.max_segment_frames:
            end = i
        if end < 0 and final and at == len(is_speech) - 1:
            end = i
        if end >= 0:
            spans[count, 0], spans[count, 1] = start, end + 1
            count += 1
            free_from, start = end + 1, -1
            window[:] = 0
            in_window, heard, silent_run = 0, False, 0
    carried[0] = first + len(is_speech)
    carried[1], carried[2], carried[3] = in_window, int(heard), start
    carried[4], carried[5] = free_from, silent_run
    return spans[:count]
