"""Lines of lyrics: sorted, each with a time of its own, and the whole text."""

from __future__ import annotations

import re

from hypothesis import given, settings

from deployments.core.subtitles import lrc, subtitles
from deployments.core.types import Transcript
from tests.core.transcripts import (
    PARAFORMER,
    SILENCE,
    segment_of,
    spoken,
    transcript_of,
    transcripts,
)

LINE = re.compile(r"\[(\d{2,}):([0-5]\d)\.(\d\d)\](.+)")


def lines_of(transcript: Transcript) -> list[tuple[int, str]]:
    """The start of each line in hundredths of a second, and its text."""
    found = [LINE.fullmatch(line) for line in lrc(transcript).splitlines()]
    assert None not in found, lrc(transcript)
    parts = [match.groups() for match in found if match]
    return [((int(m) * 60 + int(s)) * 100 + int(hundredths), t) for m, s, hundredths, t in parts]


@settings(max_examples=60)
@given(transcripts())
def test_every_line_has_its_time_and_the_lines_are_the_subtitles(transcript: Transcript) -> None:
    lines = lines_of(transcript)

    cues = subtitles(transcript)
    assert [at for at, _ in lines] == [cue.start_ms // 10 for cue in cues]
    assert ["".join(text.split()) for _, text in lines] == [
        "".join(cue.text.split()) for cue in cues
    ]


def test_the_example() -> None:
    assert lrc(PARAFORMER).splitlines()[0] == "[00:00.50]今天天气很好，我们去公园。"


def test_after_an_hour_the_minutes_go_on() -> None:
    words = spoken("今天。", start_ms=2 * 3_600_000 + 3_450)

    assert lrc(transcript_of(segment_of(words))) == "[120:03.45]今天。\n"


def test_silence_has_no_line() -> None:
    assert lrc(SILENCE) == ""
