"""Transcripts for tests: one worked example of each kind of engine, and arbitrary ones."""

from __future__ import annotations

from hypothesis import strategies as st

from deployments.core.types import Cue, Transcript, TranscriptSegment, Word


def text_of(words: tuple[Word, ...]) -> str:
    return "".join((" " if w.space else "") + w.text + w.mark for w in words).strip()


def spoken(text: str, *, start_ms: int, word_ms: int = 200, pause_ms: int = 0) -> tuple[Word, ...]:
    """One word per character of `text`. A mark belongs to the character before it."""
    words: list[Word] = []
    for character in text:
        if character in "，。？！、":
            last = words[-1]
            words[-1] = Word(last.text, last.start_ms, last.end_ms, character)
            start_ms += pause_ms
        else:
            words.append(Word(character, start_ms, start_ms + word_ms))
            start_ms += word_ms
    return tuple(words)


def transcript_of(*segments: TranscriptSegment, duration_ms: int | None = None) -> Transcript:
    last_ms = segments[-1].end_ms if segments else 0
    return Transcript(
        text="".join(segment.text for segment in segments),
        duration_ms=last_ms if duration_ms is None else duration_ms,
        segments=segments,
        language="zh",
        model="paraformer-zh",
        has_word_times=all(segment.words for segment in segments),
    )


def segment_of(words: tuple[Word, ...], index: int = 0) -> TranscriptSegment:
    return TranscriptSegment(
        index, words[0].start_ms, words[-1].end_ms, text_of(words), words, pool="cpu", engine="e"
    )


PARAFORMER = Transcript(
    text="今天天气很好，我们去公园。你 hello world 吗？",
    duration_ms=8_500,
    segments=(
        TranscriptSegment(
            0,
            500,
            3_700,
            "今天天气很好，我们去公园。",
            spoken("今天天气很好，我们去公园。", start_ms=500, pause_ms=200),
            pool="T4",
            replica="Asr-T4#a1",
            engine="paraformer-zh",
            busy_ms=12.25,
        ),
        TranscriptSegment(
            1,
            5_000,
            7_000,
            "你 hello world 吗？",
            (
                Word("你", 5_000, 5_200),
                Word("hello", 5_200, 5_900, space=True),
                Word("world", 6_000, 6_600, space=True),
                Word("吗", 6_700, 7_000, "？", space=True),
            ),
            pool="cpu",
            replica="Asr-cpu#b2",
            engine="paraformer-zh",
            busy_ms=80.0,
            attempts=2,
        ),
        TranscriptSegment(2, 7_500, 8_000, "", error="CUDA error", attempts=3),
    ),
    language="zh",
    model="paraformer-zh",
    has_word_times=True,
    wall_ms=321.5,
    warnings=("1 of 3 segments failed.",),
)

WHISPER = Transcript(
    text="今天天气很好,我们去公园。好。",
    duration_ms=9_000,
    segments=(
        TranscriptSegment(
            0,
            0,
            6_000,
            "今天天气很好,我们去公园。",
            cues=(Cue("今天天气很好,", 0, 2_000), Cue("我们去公园。", 2_500, 6_000)),
            engine="whisper-small",
        ),
        TranscriptSegment(1, 7_000, 8_000, "好。", engine="whisper-small"),
    ),
    language="zh",
    model="whisper-small",
    has_word_times=False,
)

SILENCE = Transcript("", 3_000, (), "zh", "paraformer-zh", True)

CHARACTERS = "今天气很好公园去abcXYZ019，。？！、,.!-><&/{}\\“”（）é \n"
texts = st.text(CHARACTERS, min_size=1, max_size=50)
gaps_ms = st.one_of(st.just(0), st.integers(0, 300), st.integers(0, 9_000))


@st.composite
def words(draw: st.DrawFn, start_ms: int) -> tuple[Word, ...]:
    made = []
    for _ in range(draw(st.integers(1, 15))):
        start_ms += draw(gaps_ms)
        end_ms = start_ms + draw(gaps_ms)
        text = draw(st.one_of(st.sampled_from("今天好"), st.text("abc<&>-", min_size=1)))
        mark = draw(st.sampled_from(["", "", "", "，", "。", "？"]))
        made.append(Word(text, start_ms, end_ms, mark, draw(st.booleans())))
        start_ms = end_ms
    return tuple(made)


@st.composite
def segments(draw: st.DrawFn, index: int, start_ms: int) -> TranscriptSegment:
    start_ms += draw(gaps_ms)
    if draw(st.booleans()):
        spoken_words = draw(words(start_ms))
        return TranscriptSegment(
            index, start_ms, spoken_words[-1].end_ms, text_of(spoken_words), spoken_words
        )
    end_ms = start_ms + draw(st.integers(0, 30_000))
    cues = tuple(
        Cue(draw(texts), draw(st.integers(0, end_ms)), draw(st.integers(0, end_ms + 5_000)))
        for _ in range(draw(st.integers(0, 3)))
    )
    text = "".join(cue.text for cue in cues) if draw(st.booleans()) else draw(texts)
    return TranscriptSegment(index, start_ms, end_ms, text.strip(), cues=cues)


@st.composite
def transcripts(draw: st.DrawFn) -> Transcript:
    made: list[TranscriptSegment] = []
    for index in range(draw(st.integers(0, 3))):
        made.append(draw(segments(index, made[-1].end_ms if made else 0)))
    last_ms = made[-1].end_ms if made else 0
    return transcript_of(*made, duration_ms=last_ms + draw(gaps_ms))
