"""FSMN-VAD's decision: from P(silence) of each frame to spans of speech, one compiled pass.

A window over the last 20 frames smooths the decisions; speech starts where the window fills, and
ends after enough silence or at the longest segment. Equal to the state machine of
`funasr/models/fsmn_vad_streaming/model.py` (1.4.16) with `detect_mode=1` and a fixed end silence.
Frames may come in pieces of any size: what is carried between them is a hundred bytes.
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

NO_NOISE_YET = -100.0  # FunASR's mark for a noise level that no frame has set


class Rule(NamedTuple):
    """The thresholds; counts are frames of `frame_ms`. A tuple: compiled code reads it."""

    frame_ms: int
    max_segment_frames: float
    end_silence_frames: float  # of silence after the window has turned silent
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
    """What the machine knows after the frames it has seen."""

    ints: Ints  # see `_walk`
    window: Ints  # 1 for each of the last frames that was speech, a ring
    noise_decibel: Floats  # (1,)


class Endpointer:
    """One recording's machine; a span that it has given never changes."""

    def __init__(self, rule: Rule) -> None:
        self._rule = rule
        self._carried = Carried(
            ints=np.array([0, 0, 0, -1, 0, 0], np.int64),
            window=np.zeros(rule.window_frames, np.int64),
            noise_decibel=np.full(1, NO_NOISE_YET),
        )

    def feed(self, silence: Floats, decibel: Floats, *, final: bool) -> list[tuple[int, int]]:
        """Start and end in ms of each span that ended; `final` says that no frame follows.

        Both arrays are (n_frames,), the frames after those of the last call. P(silence) is
        0..1; what is -inf or `log(0)` to FunASR is certainty here.
        """
        carried, frame_ms = self._carried, self._rule.frame_ms
        is_speech = _classify(silence, decibel, self._rule, carried.noise_decibel)
        frames = _walk(is_speech, final, self._rule, carried.ints, carried.window)
        return [(start * frame_ms, end * frame_ms) for start, end in frames.tolist()]


@compiled
def _classify(silence: Floats, decibel: Floats, rule: Rule, noise: Floats) -> Ints:
    """1 for each frame that is speech, looked at alone; (n_frames,). `noise` is carried on."""
    is_speech = np.zeros(len(silence), np.int64)
    noise_decibel = noise[0]
    for i in range(len(silence)):
        if decibel[i] < rule.min_decibel:
            continue
        # through the logarithm and back, as FunASR: it decides ties. log(0) is -inf here.
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
    """First frame, and frame after the last, of each span that ends in these; (n_spans, 2)."""
    spans = np.empty((len(is_speech) + 1, 2), np.int64)
    count = 0
    first, in_window, heard_before, start, free_from, silent_run = carried
    heard = heard_before > 0  # what the window last turned to; `in_window` counts its speech
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
