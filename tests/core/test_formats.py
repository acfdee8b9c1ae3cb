"""Formats and stream events, held against the types of OpenAI's own client."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import srt as srt_parser
import webvtt
from hypothesis import given, settings
from openai.types.audio import (
    Transcription,
    TranscriptionTextDeltaEvent,
    TranscriptionTextDoneEvent,
    TranscriptionVerbose,
)

from deployments.core.formats import (
    FORMATS,
    detailed,
    from_detailed,
    from_stream_event,
    stream_event,
    verbose_json,
)
from deployments.core.types import Delta, Done, Progress, StreamEvent, Transcript
from tests.core.transcripts import PARAFORMER, SILENCE, WHISPER, transcripts

EXAMPLES = pytest.mark.parametrize("transcript", [PARAFORMER, WHISPER, SILENCE])

# How to read the text back out of the body of each format.
TEXT_OF: dict[str, Callable[[str], str]] = {
    "json": lambda body: json.loads(body)["text"],
    "text": lambda body: body,
    "srt": lambda body: "".join(cue.content for cue in srt_parser.parse(body)),
    "vtt": lambda body: "".join(cue.text for cue in webvtt.from_string(body).captions),
    "verbose_json": lambda body: json.loads(body)["text"],
    "detailed_json": lambda body: json.loads(body)["text"],
}


def rendered(name: str, transcript: Transcript, *granularities: str) -> str:
    return FORMATS[name].render(transcript, granularities)


@EXAMPLES
@pytest.mark.parametrize("name", sorted(FORMATS))
def test_every_format_carries_the_same_text(name: str, transcript: Transcript) -> None:
    text = TEXT_OF[name](rendered(name, transcript))

    assert "".join(text.split()) == "".join(transcript.text.split())


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("json", "application/json"),
        ("text", "text/plain; charset=utf-8"),
        ("srt", "application/x-subrip; charset=utf-8"),
        ("vtt", "text/vtt; charset=utf-8"),
        ("verbose_json", "application/json"),
        ("detailed_json", "application/json"),
    ],
)
def test_every_format_has_its_media_type(name: str, media_type: str) -> None:
    assert FORMATS[name].media_type == media_type


@EXAMPLES
def test_json_is_openais(transcript: Transcript) -> None:
    body = Transcription.model_validate_json(rendered("json", transcript), strict=True)

    assert body.text == transcript.text
    assert body.usage is not None
    assert body.usage.type == "duration"
    assert body.usage.seconds == transcript.duration_ms / 1000


@EXAMPLES
def test_verbose_json_is_openais(transcript: Transcript) -> None:
    body = TranscriptionVerbose.model_validate_json(
        rendered("verbose_json", transcript), strict=True
    )

    assert body.segments is not None
    assert [s.text for s in body.segments] == [s.text for s in transcript.segments]
    assert [s.start for s in body.segments] == [s.start_ms / 1000 for s in transcript.segments]
    assert [s.end for s in body.segments] == [s.end_ms / 1000 for s in transcript.segments]
    assert body.duration == transcript.duration_ms / 1000
    assert body.language == "zh"
    assert body.words is None


def test_a_verbose_segment_has_every_field_of_openai() -> None:
    first = verbose_json(PARAFORMER)["segments"][0]

    assert first == {
        "id": 0,
        "seek": 50,
        "start": 0.5,
        "end": 3.7,
        "text": "今天天气很好，我们去公园。",
        "tokens": [],
        "temperature": 0.0,
        "avg_logprob": 0.0,
        "compression_ratio": pytest.approx(0.8, abs=0.2),
        "no_speech_prob": 0.0,
    }


@pytest.mark.parametrize(
    ("granularities", "has_segments", "has_words"),
    [
        ((), True, False),
        (("segment",), True, False),
        (("word",), False, True),
        (("word", "segment"), True, True),
    ],
)
def test_granularities_choose_segments_and_words(
    granularities: tuple[str, ...], has_segments: bool, has_words: bool
) -> None:
    body = verbose_json(PARAFORMER, granularities)

    assert ("segments" in body, "words" in body) == (has_segments, has_words)


def test_words_have_their_times_and_no_marks() -> None:
    body = TranscriptionVerbose.model_validate(verbose_json(PARAFORMER, ["word"]))

    assert body.words is not None
    assert body.words[5].model_dump() == {"word": "好", "start": 1.5, "end": 1.7}
    assert len(body.words) == len(PARAFORMER.words)


def test_detailed_json_names_the_replica_of_a_segment_and_has_its_punctuation() -> None:
    body = json.loads(rendered("detailed_json", PARAFORMER))

    second, failed = body["segments"][1:]
    assert second["words"][-1] == {
        "text": "吗",
        "start_ms": 6_700,
        "end_ms": 7_000,
        "mark": "？",
        "space": True,
    }
    assert (second["pool"], second["replica"], second["busy_ms"]) == ("cpu", "Asr-cpu#b2", 80.0)
    assert (second["attempts"], second["approximate"]) == (2, False)
    assert failed["error"] == "CUDA error"
    assert body["warnings"] == ["1 of 3 segments failed."]


def test_detailed_json_says_where_times_are_approximate() -> None:
    body = detailed(WHISPER)

    assert [segment["approximate"] for segment in body["segments"]] == [True, True]
    assert len(body["segments"][0]["cues"]) == 2


@EXAMPLES
def test_detailed_json_is_read_back_equal(transcript: Transcript) -> None:
    assert from_detailed(json.loads(rendered("detailed_json", transcript))) == transcript


@settings(max_examples=40, deadline=None)
@given(transcripts())
def test_any_detailed_json_is_read_back_equal(transcript: Transcript) -> None:
    assert from_detailed(json.loads(rendered("detailed_json", transcript))) == transcript


def test_keys_of_a_newer_server_are_ignored() -> None:
    body = detailed(PARAFORMER) | {"speakers": []}
    body["segments"][0]["words"][0]["confidence"] = 0.5

    assert from_detailed(body) == PARAFORMER


@pytest.mark.parametrize("body", [{}, {"text": ""}, {"segments": [{}]}])
def test_a_body_that_is_not_a_transcript_is_a_key_error(body: dict[str, Any]) -> None:
    with pytest.raises(KeyError):
        from_detailed(body)


@pytest.mark.parametrize("event", [Delta("今天。"), Progress(500, 2_000), Done(PARAFORMER)])
def test_events_for_our_clients_are_read_back_equal(event: StreamEvent) -> None:
    body = json.loads(json.dumps(stream_event(event, is_detailed=True)))

    assert from_stream_event(body) == event


def test_events_for_openais_clients_are_theirs() -> None:
    delta = TranscriptionTextDeltaEvent.model_validate(stream_event(Delta("今天。")), strict=True)
    done = TranscriptionTextDoneEvent.model_validate(stream_event(Done(PARAFORMER)), strict=True)

    assert delta.delta == "今天。"
    assert done.text == PARAFORMER.text
    assert delta.model_extra == {}
    assert done.model_extra == {"model": "paraformer-zh", "duration": 8.5}


def test_progress_is_not_sent_to_openais_clients() -> None:
    assert stream_event(Progress(1, 2)) is None


def test_an_event_of_another_type_is_ignored() -> None:
    assert from_stream_event({"type": "transcript.text.segment"}) is None
