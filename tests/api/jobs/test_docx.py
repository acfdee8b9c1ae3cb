"""The document of Word, opened again by the library that others would open it with."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO

import pytest
from docx import Document
from hypothesis import given, settings
from hypothesis import strategies as st

from deployments.api.jobs.files import EXPORTS, docx
from deployments.core.jobs.edits import edited
from deployments.core.types import Transcript
from tests.core.transcripts import PARAFORMER, SILENCE, WHISPER, segment_of, spoken, transcript_of


def paragraphs(transcript: Transcript) -> list[str]:
    return [one.text for one in Document(BytesIO(docx(transcript))).paragraphs]


def test_each_segment_with_text_is_a_paragraph_behind_its_time() -> None:
    assert paragraphs(PARAFORMER) == [
        "[00:00:00] 今天天气很好，我们去公园。",
        "[00:00:05] 你 hello world 吗？",
    ]


def test_an_engine_without_word_times_has_paragraphs_too() -> None:
    assert [one[11:] for one in paragraphs(WHISPER)] == [s.text for s in WHISPER.segments]


def test_hours_are_told() -> None:
    words = spoken("今天。", start_ms=3 * 3_600_000 + 62_900)

    assert paragraphs(transcript_of(segment_of(words))) == ["[03:01:02] 今天。"]


def test_silence_is_an_empty_document() -> None:
    assert paragraphs(SILENCE) == []


@pytest.mark.parametrize("text", ["<b>&amp;</b>", "a\x0bb", "a\x00b", "\ufffe", "a\tb", "😀"])
def test_no_text_breaks_the_document(text: str) -> None:
    (first, _) = paragraphs(edited(PARAFORMER, {0: "前" + text}))

    assert first.startswith("[00:00:00] 前")


@settings(max_examples=30)
@given(st.text(max_size=20))
def test_any_edit_can_be_opened_again(text: str) -> None:
    segment = replace(PARAFORMER.segments[0], text=text, words=())

    assert len(paragraphs(replace(PARAFORMER, segments=(segment,)))) == bool(text)


def test_it_is_one_of_the_exports() -> None:
    export = EXPORTS["docx"]

    assert export.render(PARAFORMER).startswith(b"PK")
    assert export.media_type.endswith("wordprocessingml.document")
