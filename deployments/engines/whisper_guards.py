"""What keeps Whisper from printing what nobody said: silence, noise, loops, stock phrases.

Whisper was trained on subtitles. On silence and noise it prints what subtitles say there, or its
prompt; when it loses the thread it repeats itself until its context is full. Measured with small
q8 on white, pink, tonal and no noise of 0.5 to 10 s at -60 to -20 dBFS: probability of no speech
0.61 to 0.95, where it is 0.00 to 0.32 on the clips of real speech.
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
SILENCE_DBFS = -65.0  # of the loudest block; 16-bit dither lies near -95, a far whisper near -50
# Between the 5th and the 95th percentile of the blocks: white noise has 0.9 dB at most, a tone
# none, the steadiest half second in 290 s of speech 2.3 dB.
STEADY_DB = 1.5
NO_SPEECH_PROB = 0.6  # openai/whisper, `no_speech_threshold`
MIN_AVG_LOGPROB = -1.0  # openai/whisper, `logprob_threshold`
DOUBT_NO_SPEECH_PROB = 0.4  # above every clip of speech measured, below all noise
DOUBT_AVG_LOGPROB = -0.8
LOOP_MAX_PERIOD = 24  # tokens of a repeated phrase, about 15 characters
LOOP_MIN_COPIES = 4
LOOP_MIN_TOKENS = 12  # so that a few short laughs are no loop
REPEATED_TOKENS = 6  # a run of text as long as this does not come twice in what was cut off
MAX_SAID_PER_S = 8  # characters of Mandarin; the meeting has 4.3 a second in its speech
TOKENS_PER_S = 14  # fast Mandarin: 7 characters a second of at most 2 tokens; measured mean 1.3
TOKENS_AT_LEAST = 24


T = TypeVar("T", bound=Hashable)  # a token, or a character


@dataclass(frozen=True, slots=True)
class Confidence:
    """What the model thinks of its own text; NaN where an engine does not tell."""

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
    """How many tokens at the end only repeat what stands before them; 0 if there is no loop.

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
    """Whether tokens (or characters) loop, and are more than can be said in the time.

    What is said again and again, at the speed of speech, is no runaway.
    """
    most_said = LOOP_MIN_TOKENS + MAX_SAID_PER_S * n_ms // 1000
    return len(tokens) > most_said and loop_length(tokens) > 0


def cut_at_loop(text: str, n_ms: int) -> str:
    """A text up to where it runs away, with one copy of the loop; empty if it is nothing else."""
    for n_read in range(LOOP_MIN_TOKENS, len(text) + 1):
        read = text[:n_read]
        if runs_away(read, n_ms):
            kept = "".join(without_repeats(read))
            return "" if (kept * n_read).startswith(read) else kept
    return text


def without_repeats(tokens: Sequence[T]) -> tuple[T, ...]:
    """The tokens up to where they begin to repeat: one copy of a loop, or of a longer run."""
    kept = tokens[: len(tokens) - loop_length(tokens)]
    seen: set[tuple[T, ...]] = set()
    for at in range(len(kept) - REPEATED_TOKENS + 1):
        run = tuple(kept[at : at + REPEATED_TOKENS])
        if run in seen:
            return tuple(kept[:at])
        seen.add(run)
    return tuple(kept)


def heard_no_speech(confidence: Confidence) -> bool:
    """Whether the model itself says that there was no speech."""
    return confidence.no_speech_prob > NO_SPEECH_PROB and confidence.avg_logprob < MIN_AVG_LOGPROB


# Searched in a text without spaces, marks and case. Names of subtitlers and stations, seen from
# Whisper on silence, music and noise:
NEVER_SPOKEN = re.compile(
    "明镜与点点|打赏支持明镜|明镜需要您的支持|amaraorg|优优独播剧场|yoyotelevisionseries"
    "|mingpaocanada"
)
# The rest of their credits and appeals, which may also be said: dropped in doubt.
CREDITS = re.compile(
    "请不吝点赞|请按赞|记得点赞?|收藏转发|订阅转发|字幕(?:由|志愿者|提供|制作|组|by)|^(?:作?[词曲])+$"
)

# What people do say, and Whisper also says on noise: dropped as a whole text, and in doubt.
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
    """Whether a text is empty or marks alone."""
    return not _bare(text)


def is_invented(text: str, confidence: Confidence, prompt: str = "") -> bool:
    """Whether nobody said the text: no speech, a subtitle's credits, or the prompt read back."""
    bare = _bare(text)
    if heard_no_speech(confidence) or NEVER_SPOKEN.search(bare):
        return True
    return _in_doubt(confidence) and (bare in _bare(prompt) or bool(CREDITS.search(bare)))


def is_doubtful(text: str, confidence: Confidence) -> bool:
    """Whether a segment's whole text is a phrase Whisper likes, heard with little confidence."""
    return _bare(text) in OFTEN_INVENTED and _in_doubt(confidence)


def _in_doubt(confidence: Confidence) -> bool:
    return (
        confidence.no_speech_prob > DOUBT_NO_SPEECH_PROB
        or confidence.avg_logprob < DOUBT_AVG_LOGPROB
    )


def _bare(text: str) -> str:
    """Letters, digits and Chinese characters only, in lower case."""
    return "".join(letter for letter in text.lower() if letter.isalnum())
