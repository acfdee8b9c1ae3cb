"""The text of a request does not depend on the order and grouping of its answers."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from deployments.core import formats
from deployments.core.segments import Answer
from deployments.core.text import join_words
from deployments.core.types import (
    EngineInfo,
    Hints,
    HotwordReport,
    PunctuationStep,
    PunctuationTask,
    Recognition,
    Segment,
    TranscribeOptions,
    Transcript,
    Word,
)
from deployments.engines.fake import punctuate
from deployments.engines.families import asr_info
from deployments.engines.protocols import EngineSettings
from deployments.request.writer import Writer
from tests.invariants import check_invariants

PARAFORMER = asr_info("paraformer", EngineSettings(name="paraformer-zh"))
WHISPER = asr_info("whisper-onnx", EngineSettings(name="whisper-small"))
SEGMENT_MS = 5000


def segments_for(texts: Sequence[str]) -> list[Segment]:
    return [Segment(i, i * SEGMENT_MS, i * SEGMENT_MS + 4800) for i in range(len(texts))]


def answer(text: str) -> Answer:
    """The text with a word of 100 ms for each character, by an engine that cannot spell "x-1"."""
    words = tuple(Word(char, 120 * i, 120 * i + 100) for i, char in enumerate(text))
    return Answer(Recognition(join_words(words), words, unspelt=("x-1",)))


async def _punctuate(task: PunctuationTask) -> PunctuationStep:
    return punctuate(task)


def write(
    texts: Sequence[str],
    rounds: Sequence[Sequence[int]] | None = None,
    *,
    engine: EngineInfo = PARAFORMER,
    punctuated: bool = True,
    itn: bool = True,
    hotwords: tuple[str, ...] = (),
    timed: bool = True,
    word_times: bool = False,
) -> tuple[Transcript, str]:
    """The transcript of segments that are answered in these rounds, and the joined deltas."""
    options = TranscribeOptions(
        hints=Hints(hotwords=hotwords), itn=itn, timed=timed, word_times=word_times
    )
    writer = Writer(segments_for(texts), engine, _punctuate if punctuated else None, options)

    async def answered() -> str:
        deltas = [
            await writer.add({i: answer(texts[i]) for i in indices})
            for indices in rounds or [range(len(texts))]
        ]
        return "".join([*deltas, await writer.add({}, are_last=True)])

    deltas = asyncio.run(answered())
    return writer.transcript(duration_ms=SEGMENT_MS * len(texts), language="zh"), deltas


def test_spoken_numbers_are_written_in_digits_with_their_times() -> None:
    transcript, deltas = write(["一共三百零五人", "百分之四点二"])

    assert transcript.text == deltas == "一共305人，4.2%。"
    assert [s.text for s in transcript.segments] == ["一共305人，", "4.2%。"]
    assert [(w.text, w.start_ms, w.end_ms) for w in transcript.words if w.text[0].isdigit()] == [
        ("305", 240, 700),
        ("4.2%", 5000, 5700),
    ]
    assert formats.detailed(transcript)["itn"] is True
    assert formats.from_detailed(formats.detailed(transcript)) == transcript


@pytest.mark.parametrize("name", sorted(formats.FORMATS))
def test_every_format_has_the_digits(name: str) -> None:
    transcript, _ = write(["一共三百零五人", "百分之四点二"])

    body = formats.FORMATS[name].render(transcript, ("word", "segment"))

    assert "305" in body
    assert "4.2%" in body
    assert "三" not in body


@pytest.mark.parametrize("punctuated", [True, False])
@pytest.mark.parametrize("itn", [True, False])
@pytest.mark.parametrize(
    "texts",
    [
        ["一共三百零五人", "百分之四点二"],
        ["有三百", "零五人"],
        ["", "好", ""],
        ["abc", "def一", "二ok"],
        ["三", "四", "五十"],
    ],
)
def test_without_times_text_and_segments_are_the_same_and_no_word_is_listed(
    texts: list[str], itn: bool, punctuated: bool
) -> None:
    full, deltas = write(texts, itn=itn, punctuated=punctuated)

    bare, bare_deltas = write(texts, itn=itn, punctuated=punctuated, timed=False)

    assert (bare.text, bare_deltas) == (full.text, deltas)
    assert [(s.text, s.start_ms, s.end_ms) for s in bare.segments] == [
        (s.text, s.start_ms, s.end_ms) for s in full.segments
    ]
    assert (bare.words, bare.has_word_times) == ((), False)
    assert bare.itn is full.itn
    check_invariants(bare)


def test_who_asks_for_word_times_gets_them() -> None:
    asked, _ = write(["一共三百零五人"], timed=False, word_times=True)

    assert asked == write(["一共三百零五人"])[0]


def test_without_being_asked_numbers_stay_as_they_are_spoken() -> None:
    transcript, deltas = write(["一共三百零五人"], itn=False)

    assert transcript.text == deltas == "一共三百零五人。"
    assert not transcript.itn


def test_an_engine_that_writes_digits_itself_is_left_alone() -> None:
    transcript, _ = write(["三百零五人"], engine=WHISPER, punctuated=False)

    assert (transcript.text, transcript.itn) == ("三百零五人", False)


@pytest.mark.parametrize(
    ("punctuated", "text"),
    [(True, "有三百零五人。"), (False, "有300零五人")],  # False: each segment is converted alone
)
def test_a_number_that_a_pause_divides_is_not_read_over_it(punctuated: bool, text: str) -> None:
    transcript, deltas = write(["有三百", "零五人"], punctuated=punctuated)

    assert transcript.text == deltas == text


def test_the_transcript_says_which_hotwords_were_applied() -> None:
    transcript, _ = write(["一共", "两句"], hotwords=("魔搭", "x-1"))

    report = {"applied": ("魔搭",), "ignored": ("x-1",)}
    assert formats.simple(transcript)["hotwords"] == report
    assert formats.verbose_json(transcript)["hotwords"] == report
    assert formats.detailed(transcript)["hotwords"] == report
    assert formats.from_detailed(json.loads(formats.to_json(formats.detailed(transcript)))) == (
        transcript
    )
    assert transcript.warnings == (
        "hotwords: the model 'paraformer-zh' has no tokens for 'x-1'; not applied.",
    )


def test_silence_and_no_hotwords_are_no_report_of_failure() -> None:
    silent, _ = write([], hotwords=("魔搭",))
    plain, _ = write(["一共"])

    assert silent.hotwords == HotwordReport(applied=("魔搭",))
    assert plain.hotwords is None
    assert "hotwords" not in formats.simple(plain)


TEXTS = st.lists(
    st.text("零一二两三五九十百千万点分之年月号日个下午半到abc多几", max_size=30),
    min_size=1,
    max_size=6,
)


@settings(deadline=None, max_examples=150)
@given(TEXTS, st.booleans(), st.integers(0, 2**32))
@example(texts=["一十", "a"], punctuated=False, seed=0)  # a number, then a foreign word
def test_the_digits_do_not_depend_on_how_the_answers_came(
    texts: list[str], punctuated: bool, seed: int
) -> None:
    order = list(range(len(texts)))
    rng = random.Random(seed)
    rng.shuffle(order)
    n_first = rng.randint(0, len(order))
    rounds = [order[:n_first], *([i] for i in order[n_first:])]

    together, _ = write(texts, punctuated=punctuated)
    apart, deltas = write(texts, rounds, punctuated=punctuated)

    check_invariants(apart)
    assert apart == together
    assert deltas == apart.text
