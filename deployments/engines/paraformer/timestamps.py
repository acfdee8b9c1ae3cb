"""From CIF peaks to word times: FunASR's rule for tokens, then words that fit into the segment."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby, pairwise

from torch import Tensor

from deployments.core.types import Word
from deployments.engines.paraformer.cif import find_peaks

PEAK = 1.0 - 1e-4  # all from funasr/utils/timestamp_tools.py, ts_prediction_lfr6_standard
SHIFT_FRAMES = -1.5
MAX_TOKEN_FRAMES = 12
EDGE_FRAMES = 5
FRAME_S = 10.0 * 6 / 1000 / 3  # 60 ms encoder frames, upsampled three times

Times = list[tuple[int, int]]


def token_times(alphas: Tensor, n_tokens: int) -> Times:
    """Start and end in ms of each token, as FunASR's `ts_prediction_lfr6_standard`.

    `alphas` is (3 * n_frames,) float32 on the CPU, scaled so that its sum is the decoder's number
    of tokens. If there are too few peaks, the list is shorter than `n_tokens`. Times may lie a
    little outside the segment, because FunASR shifts them and its last frame is padded.
    """
    if not n_tokens:
        return []
    n_frames = alphas.shape[0]
    peaks = find_peaks(alphas.numpy(), threshold=PEAK) + SHIFT_FRAMES
    if len(peaks) != n_tokens + 1:
        alphas = alphas / (alphas.sum() / (n_tokens + 1))
        peaks = find_peaks(alphas.numpy(), threshold=PEAK) + SHIFT_FRAMES
    if len(peaks) < 2:
        return []
    frames = [
        [start, min(end, start + MAX_TOKEN_FRAMES)] for start, end in pairwise(peaks.tolist())
    ][:n_tokens]
    if peaks[-1] - peaks[-2] <= MAX_TOKEN_FRAMES:  # otherwise FunASR's last entry is a silence
        tail = n_frames - peaks[-1]
        frames[-1][1] = (n_frames + peaks[-1]) * 0.5 if tail > EDGE_FRAMES else n_frames
    return [(int(s * FRAME_S * 1000), int(e * FRAME_S * 1000)) for s, e in frames]


def pad_times(times: Times, n_tokens: int) -> Times:
    """`times`, with a time of no length at the end for each token without a time.

    FunASR fails on such a segment if it holds foreign words, and otherwise drops times.
    """
    last = times[-1][1] if times else 0
    return times + [(last, last)] * (n_tokens - len(times))


def fit_words(texts: Sequence[str], times: Sequence[Sequence[int]], *, n_ms: int) -> list[Word]:
    """One Word per Chinese character or foreign word, with times inside 0..n_ms, in order.

    FunASR may give fewer times than words, because tokens such as "&" have none. The remaining
    words are placed at the end of the last one, with no length. A word with both kinds of
    characters is split as for the punctuation model, and its first part keeps the time.
    """
    words: list[Word] = []
    clock = 0
    for index, text in enumerate(texts):
        start, end = times[index] if index < len(times) else (clock, clock)
        for part in split_word(text):
            start = min(max(start, clock), n_ms)
            end = min(max(end, start), n_ms)
            space = bool(words) and words[-1].text[0].isascii() and part[0].isascii()
            words.append(Word(part, start, end, space=space))
            start = clock = end
    return words


def split_word(text: str) -> list[str]:
    """Splits a text into words: each run of ASCII, and every other character by itself."""
    parts: list[str] = []
    for is_ascii, group in groupby(text, str.isascii):
        run = "".join(group)
        parts += [run] if is_ascii else run
    return parts
