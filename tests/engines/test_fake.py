"""The fake engines fulfil the protocols, and their results show their input."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from benchmarks.material import synthetic_audio
from deployments.core.errors import EngineFailed
from deployments.core.types import Hints, MarkedWord, PunctuationStep, PunctuationTask, Span
from deployments.engines.fake import POISON, FakeAsr, FakePlainAsr, FakePunctuation, FakeVad
from deployments.engines.protocols import EngineSettings

HERE = Path()
VOICE = synthetic_audio.voice(1000, seed=1)
DOCUMENT = ("ab", "c", "d", "一", "二", "三", "e") * 12  # 84 words: whole sentences


@pytest.fixture
def asr() -> FakeAsr:
    return FakeAsr(HERE, EngineSettings())


@pytest.fixture
def punctuation() -> FakePunctuation:
    return FakePunctuation(HERE, EngineSettings())


def test_a_recognition_tells_its_samples_whatever_its_batch(asr: FakeAsr) -> None:
    other = synthetic_audio.voice(700, seed=2)

    alone = [asr.transcribe([audio], Hints())[0] for audio in (VOICE, other)]
    together = asr.transcribe([other, VOICE], Hints())[::-1]

    assert together == alone
    assert alone[0].text.startswith("n16000")
    assert [w.end_ms for w in alone[0].words] == [0, 200, 400, 600, 800, 1000]


@pytest.mark.parametrize("index", [0, 7000, 15_999])
def test_one_other_sample_gives_another_text(asr: FakeAsr, index: int) -> None:
    changed = VOICE.copy()
    changed[index] += 1

    before, after = asr.transcribe([VOICE, changed], Hints())

    assert before.text != after.text


def test_hotwords_are_visible(asr: FakeAsr) -> None:
    (recognition,) = asr.transcribe([VOICE], Hints(hotwords=("ok",)))

    assert recognition.text.startswith("ok n16000")


def test_a_poisoned_segment_fails_its_batch(asr: FakeAsr) -> None:
    poisoned = VOICE.copy()
    poisoned[100] = POISON

    with pytest.raises(EngineFailed):
        asr.transcribe([VOICE, poisoned], Hints())


def test_the_plain_fake_has_marks_and_no_word_times() -> None:
    plain = FakePlainAsr(HERE, EngineSettings())

    (recognition,) = plain.transcribe([VOICE], Hints())

    assert not plain.info.has_word_times
    assert plain.info.punctuates
    assert (recognition.text[-1], recognition.words) == ("。", ())


@pytest.mark.parametrize("n_samples", [0, 100, 16_000])
def test_silence_is_an_empty_recognition(asr: FakeAsr, n_samples: int) -> None:
    (recognition,) = asr.transcribe([np.zeros(n_samples, np.int16)], Hints())

    assert (recognition.text, recognition.words) == ("", ())


def test_speech_is_what_is_loud() -> None:
    pause = np.zeros(16_000, np.int16)
    short_pause = np.zeros(1600, np.int16)
    audio = np.concatenate([pause, VOICE, short_pause, VOICE, pause, VOICE])

    spans = FakeVad(HERE, EngineSettings()).detect(audio)

    assert spans == [Span(1000, 3100), Span(4100, 5100)]


def test_long_speech_is_cut() -> None:
    spans = FakeVad(HERE, EngineSettings()).detect(synthetic_audio.voice(70_000, seed=1))

    assert [span.n_ms for span in spans] == [30_000, 30_000, 10_000]


@pytest.mark.parametrize("n_samples", [0, 100, 16_000])
def test_silence_has_no_speech(n_samples: int) -> None:
    assert FakeVad(HERE, EngineSettings()).detect(np.zeros(n_samples, np.int16)) == []


def test_marks_stand_at_their_places(punctuation: FakePunctuation) -> None:
    (step,) = punctuation.punctuate([PunctuationTask(tuple("一二三四五六七八九"))])

    assert [word.mark for word in step.done] == [*[""] * 6, "，", "", "。"]


def in_parts(
    punctuation: FakePunctuation, unread: tuple[str, ...], rng: random.Random
) -> tuple[MarkedWord, ...]:
    """The words of all steps of a document that comes in parts of random length."""
    step, done = PunctuationStep(()), tuple[MarkedWord, ...]()
    while unread:
        n_new = rng.randint(0, 30)
        new, unread = unread[:n_new], unread[n_new:]
        task = PunctuationTask(step.pending + new, step.carry, final=not unread)
        (step,) = punctuation.punctuate([task])
        done += step.done
    return done


@pytest.mark.parametrize("n_words", [0, 1, 7, 21, 22, 84])
@pytest.mark.parametrize("seed", range(5))
def test_marks_do_not_depend_on_the_steps(
    punctuation: FakePunctuation, n_words: int, seed: int
) -> None:
    (expected,) = punctuation.punctuate([PunctuationTask(DOCUMENT[:n_words])])

    done = in_parts(punctuation, DOCUMENT[:n_words], random.Random(seed))

    assert done == expected.done
    assert (expected.carry, expected.pending) == ((), ())
