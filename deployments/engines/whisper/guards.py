"""Guards against text that nobody said: silence, noise, loops and stock phrases of subtitles.

Whisper was trained on subtitles. On silence and noise it prints what subtitles say there, or its
prompt. When it loses the thread, it repeats itself until its context is full.

Measured with small q8: on noise the probability of no speech is 0.61 to 0.95, on the clips of real
speech 0.00 to 0.32. The noise was white noise, pink noise, tones and silence, 0.5 to 10 s long, at
-60 to -20 dBFS.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from deployments.core.types import SAMPLES_PER_MS, Audio

MIN_SPEECH_MS = 100  # a Mandarin syllable takes 150 ms or more
LEVEL_BLOCK_MS = 50
SILENCE_DBFS = -65.0  # of the loudest block; 16-bit dither is near -95, a distant whisper near -50
# The least difference between the 5th and the 95th percentile of the blocks' levels. White noise
# has at most 0.9 dB, a tone none, the steadiest half second in 290 s of speech 2.3 dB.
STEADY_DB = 1.5
NO_SPEECH_PROB = 0.6  # openai/whisper, `no_speech_threshold`
MIN_AVG_LOGPROB = -1.0  # openai/whisper, `logprob_threshold`
DOUBT_NO_SPEECH_PROB = 0.4  # above all measured clips of speech, below all noise
DOUBT_AVG_LOGPROB = -0.8
LOOP_MAX_PERIOD = 24  # tokens of a repeated phrase: about 15 characters
LOOP_MIN_COPIES = 4
LOOP_MIN_TOKENS = 12  # so that a short laugh is not a loop
REPEATED_TOKENS = 6  # a run of this length that comes twice in text that was cut off is a repeat
MAX_SAID_PER_S = 8  # characters of Mandarin; the speech of the meeting has 4.3 a second
TOKENS_PER_S = 14  # fast Mandarin: 7 characters of at most 2 tokens; measured mean 1.3 tokens
TOKENS_AT_LEAST = 24


T = TypeVar("T", bound=Hashable)  # a token, or a character


@dataclass(frozen=True, slots=True)
class Confidence:
    """The model's confidence in its own text. NaN is a figure that an engine does not report."""

    no_speech_prob: float
    avg_logprob: float


def is_silent(audio: Audio) -> bool:
    """Whether the audio is too short, too quiet or too steady to hold speech."""
    if len(audio) <= MIN_SPEECH_MS * SAMPLES_PER_MS:
        return True
    n_block = LEVEL_BLOCK_MS * SAMPLES_PER_MS
    blocks = audio[: len(audio) // n_block * n_block].reshape(-1, n_block).astype(np.float64)
    levels_dbfs = 10 * np.log10((blocks**2).mean(axis=1) / 32768**2 + 1e-12)
    low_dbfs, high_dbfs = np.percentile(levels_dbfs, [5, 95])
    return bool(levels_dbfs.max() < SILENCE_DBFS or high_dbfs - low_dbfs < STEADY_DB)


def max_new_tokens(n_ms: int) -> int:
    """The most tokens that speech of this length can need, time tokens included."""
    return TOKENS_AT_LEAST + TOKENS_PER_S * n_ms // 1000


def loop_length(tokens: Sequence[Hashable]) -> int:
    """How many tokens at the end only repeat the tokens before them; 0 if there is no loop.

    `tokens[: len(tokens) - loop_length(tokens)]` keeps the phrase once.
    """
    for period in range(1, min(LOOP_MAX_PERIOD, len(tokens) // LOOP_MIN_COPIES) + 1):
        copies = max(LOOP_MIN_COPIES, -(-LOOP_MIN_TOKENS // period))
        n_tokens = period * copies
        tail = list(tokens[-n_tokens:])
        if len(tail) == n_tokens and tail == tail[:period] * copies:
            return n_tokens - period
    return 0


def runs_away(tokens: Sequence[Hashable], n_ms: int) -> bool:
    """Whether tokens (or characters) loop, and are more than a person can say in the time.

    A person may repeat words at the speed of speech. That is not cut off.
    """
    most_said = LOOP_MIN_TOKENS + MAX_SAID_PER_S * n_ms // 1000
    return len(tokens) > most_said and loop_length(tokens) > 0


def cut_at_loop(text: str, n_ms: int) -> str:
    """The text up to where it runs away, with one copy of the loop; empty if it is all loop."""
    for n_read in range(LOOP_MIN_TOKENS, len(text) + 1):
        read = text[:n_read]
        if runs_away(read, n_ms):
            kept = "".join(without_repeats(read))
            return "" if (kept * n_read).startswith(read) else kept
    return text


def without_repeats(tokens: Sequence[T]) -> tuple[T, ...]:
    """The tokens up to the first repeat, with one copy of a loop or of a longer run."""
    kept = tokens[: len(tokens) - loop_length(tokens)]
    seen: set[tuple[T, ...]] = set()
    for at in range(len(kept) - REPEATED_TOKENS + 1):
        run = tuple(kept[at : at + REPEATED_TOKENS])
        if run in seen:
            return tuple(kept[:at])
        seen.add(run)
    return tuple(kept)


def heard_no_speech(confidence: Confidence) -> bool:
    """Whether the model itself reports that there was no speech."""
    return confidence.no_speech_prob > NO_SPEECH_PROB and confidence.avg_logprob < MIN_AVG_LOGPROB


# These patterns are searched in a text without spaces, marks and case. First, names of subtitlers
# and stations, which Whisper printed on silence, music and noise:
NEVER_SPOKEN = re.compile(
    "明镜与点点|打赏支持明镜|明镜需要您的支持|amaraorg|优优独播剧场|yoyotelevisionseries"
    "|mingpaocanada"
)
# Other credits and appeals of subtitles. People may say these too, so they are only dropped if the
# model's confidence is low.
CREDITS = re.compile(
    "请不吝点赞|请按赞|记得点赞?|收藏转发|订阅转发|字幕(?:由|志愿者|提供|制作|组|by)|^(?:作?[词曲])+$"
)

# Phrases that people say and that Whisper also prints on noise. They are only dropped if they are
# the whole text of a segment and the model's confidence is low.
OFTEN_INVENTED = frozenset(
    (
        "谢谢",
        "谢谢观看",
        "感谢观看",
        "谢谢收看",
        "感谢收看",
        "谢谢大家",
        "谢谢大家收看",
        "感谢您的观看",
        "谢谢您的观看",
        "谢谢收听",
        "下期再见",
        "我们下期再见",
        "下次见",
        "下次再见",
        "拜拜",
        "再见",
        "请订阅",
        "多谢观看",
        "字幕",
        "嗯",
        "啊",
        "哦",
        "呃",
        "you",
        "thankyou",
        "thanksforwatching",
        "bye",
    )
)


def is_wordless(text: str) -> bool:
    """Whether a text is empty or holds only marks."""
    return not _bare(text)


def is_invented(text: str, confidence: Confidence, prompt: str = "") -> bool:
    """Whether nobody said the text: no speech, the credits of subtitles, or the prompt itself."""
    bare = _bare(text)
    if heard_no_speech(confidence) or NEVER_SPOKEN.search(bare):
        return True
    return _in_doubt(confidence) and (bare in _bare(prompt) or bool(CREDITS.search(bare)))


def is_doubtful(text: str, confidence: Confidence) -> bool:
    """Whether a segment's text is a phrase that Whisper often invents, with low confidence."""
    return _bare(text) in OFTEN_INVENTED and _in_doubt(confidence)


def _in_doubt(confidence: Confidence) -> bool:
    return (
        confidence.no_speech_prob > DOUBT_NO_SPEECH_PROB
        or confidence.avg_logprob < DOUBT_AVG_LOGPROB
    )


def _bare(text: str) -> str:
    """The text's letters, digits and Chinese characters only, in lower case."""
    return "".join(letter for letter in text.lower() if letter.isalnum())
