"""The guards against text that nobody said, from tables; no weights."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.core.types import SAMPLE_RATE_HZ
from deployments.engines.whisper.guards import (
    Confidence,
    cut_at_loop,
    is_doubtful,
    is_invented,
    is_silent,
    loop_length,
    max_new_tokens,
    without_repeats,
)

SURE = Confidence(no_speech_prob=0.02, avg_logprob=-0.2)
NOISE = Confidence(no_speech_prob=0.9, avg_logprob=-0.4)
NO_SPEECH = Confidence(no_speech_prob=0.8, avg_logprob=-1.2)
PROMPT = "以下是普通话的句子，请加上标点符号。"


def noise(n_samples: int, amplitude: float) -> np.ndarray:
    return (np.random.default_rng(0).standard_normal(n_samples) * amplitude).astype(np.int16)


def voice(n_samples: int, amplitude: float) -> np.ndarray:
    """Noise that swells and fades four times a second, as syllables do."""
    swell = 0.55 + 0.45 * np.sin(np.arange(n_samples) * 2 * np.pi * 4 / SAMPLE_RATE_HZ)
    return (noise(n_samples, amplitude) * swell).astype(np.int16)


@pytest.mark.parametrize(
    ("audio", "silent"),
    [
        (voice(0, 0), True),
        (voice(1, 9000), True),
        (voice(SAMPLE_RATE_HZ // 10, 9000), True),
        (voice(SAMPLE_RATE_HZ // 5, 9000), False),
        (voice(SAMPLE_RATE_HZ, 9000), False),
        (voice(SAMPLE_RATE_HZ, 0), True),
        (voice(SAMPLE_RATE_HZ, 3), True),
        (voice(SAMPLE_RATE_HZ, 100), False),
        (noise(SAMPLE_RATE_HZ, 100), True),
        (noise(10 * SAMPLE_RATE_HZ, 9000), True),
        (np.full(SAMPLE_RATE_HZ, 500, np.int16), True),
    ],
)
def test_only_audio_long_loud_and_lively_enough_is_read(audio: np.ndarray, silent: bool) -> None:
    assert is_silent(audio) is silent


def test_one_loud_moment_is_enough() -> None:
    audio = np.zeros(SAMPLE_RATE_HZ * 5, np.int16)
    audio[40_000:46_400] = voice(6400, 3000)

    assert not is_silent(audio)


@pytest.mark.parametrize(
    ("tokens", "n_looped"),
    [
        ([1, 2, 3, 4, 5, 6], 0),
        ([7] * 11, 0),
        ([7] * 12, 11),
        ([1, 2, 3] + [7] * 12, 11),
        ([1, 2] + [8, 9] * 6, 10),
        ([1, 2, 3, 4, 5] * 3, 0),
        ([1, 2, 3, 4, 5] * 4, 15),
        ([1, 2, 3, 4, 5] * 4 + [6], 0),
    ],
)
def test_a_loop_is_found_at_the_end_alone(tokens: list[int], n_looped: int) -> None:
    assert loop_length(tokens) == n_looped


@given(
    lead=st.lists(st.integers(0, 50), max_size=20),
    phrase=st.lists(st.integers(100, 120), min_size=1, max_size=24, unique=True),
)
def test_a_phrase_said_often_enough_is_kept_once(lead: list[int], phrase: list[int]) -> None:
    copies = max(4, math.ceil(12 / len(phrase)))

    kept = (lead + phrase * copies)[: -loop_length(lead + phrase * copies)]

    assert kept == lead + phrase


@given(st.lists(st.integers(0, 3), max_size=60))
def test_what_is_kept_is_a_prefix_without_a_run_that_came_before(tokens: list[int]) -> None:
    kept = without_repeats(tokens)

    runs = [kept[i : i + 6] for i in range(len(kept) - 5)]
    assert kept == tuple(tokens[: len(kept)])
    assert len(runs) == len(set(runs))


@pytest.mark.parametrize(
    ("text", "n_ms", "kept"),
    [
        ("今天开会。", 1000, "今天开会。"),
        ("哈哈哈哈", 100, "哈哈哈哈"),
        ("我们开始吧" + "请" * 40, 2000, "我们开始吧请"),
        ("请" * 40 + "吧", 2000, ""),
        ("但我看你" * 9, 2000, ""),
        ("但我看你" * 9, 8000, "但我看你" * 9),
    ],
)
def test_a_runaway_is_cut_and_dropped_if_it_is_nothing_else(
    text: str, n_ms: int, kept: str
) -> None:
    assert cut_at_loop(text, n_ms) == kept


@pytest.mark.parametrize(
    ("text", "confidence", "invented"),
    [
        ("今天开会。", SURE, False),
        ("今天开会。", NOISE, False),
        ("今天开会。", NO_SPEECH, True),
        ("请加上标点符号。", NOISE, True),
        ("请加上标点符号。", SURE, False),
        ("字幕by索兰娅", NOISE, True),
        ("词 曲 曲", NOISE, True),
        ("作曲的人来了", NOISE, False),
        ("请按赞，收藏，转发", NOISE, True),
        ("字幕由我们自己做。", SURE, False),
        ("请不吝点赞 订阅 转发 打赏支持明镜与点点栏目", SURE, True),
        ("字幕由 Amara.org 社群提供", SURE, True),
    ],
)
def test_what_nobody_said_is_known(text: str, confidence: Confidence, invented: bool) -> None:
    assert is_invented(text, confidence, PROMPT) is invented


@pytest.mark.parametrize(
    ("text", "confidence", "doubtful"),
    [
        ("谢谢观看！", NOISE, True),
        ("谢谢观看！", SURE, False),
        ("谢谢观看我们的报告。", NOISE, False),
        ("Thanks for watching.", Confidence(math.nan, -1.0), True),
        ("Thanks for watching.", Confidence(math.nan, -0.3), False),
    ],
)
def test_polite_phrases_are_doubted_only_where_the_model_doubts(
    text: str, confidence: Confidence, doubtful: bool
) -> None:
    assert is_doubtful(text, confidence) is doubtful


def test_the_token_limit_grows_with_the_audio() -> None:
    assert max_new_tokens(100) == 25
    assert max_new_tokens(10_000) - max_new_tokens(5_000) == 70
