"""Views of one transcript: every output format, and the events of a stream.

OpenAI's shapes have seconds and their exact fields (openai-python, `types/audio`); `detailed_json`
is ours, with integer milliseconds and who did each segment, and can be read back.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, fields
from typing import Any, TypeVar

from deployments.core.subtitles import srt, vtt
from deployments.core.types import (
    Cue,
    Delta,
    Done,
    Event,
    HotwordReport,
    Progress,
    Transcript,
    TranscriptSegment,
    Word,
)

Json = dict[str, Any]
T = TypeVar("T")

GRANULARITIES = ("segment", "word")


def seconds(t_ms: int) -> float:
    return t_ms / 1000


def _usage(transcript: Transcript) -> Json:
    return {"type": "duration", "seconds": seconds(transcript.duration_ms)}


def _hotwords(transcript: Transcript) -> Json:
    """Which hotwords were applied, where any were asked for; OpenAI's clients pass the key on."""
    return {"hotwords": asdict(transcript.hotwords)} if transcript.hotwords else {}


def simple(transcript: Transcript) -> Json:
    """OpenAI's `json`, and the model that answered."""
    return {
        "text": transcript.text,
        "model": transcript.model,
        "usage": _usage(transcript),
        **_hotwords(transcript),
    }


def _verbose_segment(number: int, segment: TranscriptSegment) -> Json:
    """OpenAI's segment. What is not known here is 0: there are no tokens and no temperature."""
    encoded = segment.text.encode()
    return {
        "id": number,
        "seek": segment.start_ms // 10,  # Whisper counts frames of 10 ms
        "start": seconds(segment.start_ms),
        "end": seconds(segment.end_ms),
        "text": segment.text,
        "tokens": [],
        "temperature": 0.0,
        "avg_logprob": 0.0,
        "compression_ratio": len(encoded) / len(zlib.compress(encoded)),
        "no_speech_prob": 0.0,
    }


def verbose_json(transcript: Transcript, granularities: Collection[str] = ()) -> Json:
    """OpenAI's `verbose_json`; without granularities it has segments, as OpenAI's."""
    body: Json = {
        "task": "transcribe",
        "language": transcript.language,
        "duration": seconds(transcript.duration_ms),
        "text": transcript.text,
        "model": transcript.model,
        "usage": _usage(transcript),
        **_hotwords(transcript),
    }
    if "segment" in granularities or not granularities:
        body["segments"] = [
            _verbose_segment(number, segment) for number, segment in enumerate(transcript.segments)
        ]
    if "word" in granularities:
        body["words"] = [
            {"word": word.text, "start": seconds(word.start_ms), "end": seconds(word.end_ms)}
            for word in transcript.words
        ]
    return body


def detailed(transcript: Transcript) -> Json:
    """Everything. `approximate`: times inside the segment are guesses, not the engine's words."""
    body = asdict(transcript)
    for segment in body["segments"]:
        segment["approximate"] = bool(segment["text"]) and not segment["words"]
    return {"task": "transcribe", **body}


def _read(kind: type[T], body: Mapping[str, Any], **made: object) -> T:
    """A dataclass from the keys of its name; another version's server may send more or fewer."""
    names = {f.name for f in fields(kind)} & body.keys() - made.keys()  # type: ignore[arg-type]
    plain = {name: body[name] for name in names}
    return kind(**plain, **made)


def from_detailed(body: Mapping[str, Any]) -> Transcript:
    """The transcript that `detailed` wrote. Raises KeyError or TypeError for any other body."""
    segments = tuple(
        _read(
            TranscriptSegment,
            segment,
            words=tuple(_read(Word, word) for word in segment["words"]),
            cues=tuple(_read(Cue, cue) for cue in segment["cues"]),
        )
        for segment in body["segments"]
    )
    report = body.get("hotwords")
    return _read(
        Transcript,
        body,
        segments=segments,
        warnings=tuple(body["warnings"]),
        hotwords=report and HotwordReport(tuple(report["applied"]), tuple(report["ignored"])),
    )


def stream_event(event: Event, *, is_detailed: bool = False) -> Json | None:
    """The JSON of one event of a stream, None for what OpenAI's clients do not know.

    OpenAI's `usage` of the last event counts tokens, of which there are none here; it is left out
    and `duration` is added. With `is_detailed` (our own clients) progress is sent, and the last
    event has the whole transcript.
    """
    match event:
        case Delta(text):
            return {"type": "transcript.text.delta", "delta": text}
        case Progress(done_ms, total_ms) if is_detailed:
            return {"type": "transcript.progress", "done_ms": done_ms, "total_ms": total_ms}
        case Progress():
            return None
        case Done(transcript):
            return {
                "type": "transcript.text.done",
                "text": transcript.text,
                "model": transcript.model,
                "duration": seconds(transcript.duration_ms),
                **_hotwords(transcript),
                **({"transcript": detailed(transcript)} if is_detailed else {}),
            }


def from_stream_event(body: Mapping[str, Any]) -> Event | None:
    """The event that `stream_event` wrote with `is_detailed`; None for a type not known here."""
    match body["type"]:
        case "transcript.text.delta":
            return Delta(body["delta"])
        case "transcript.progress":
            return Progress(body["done_ms"], body["total_ms"])
        case "transcript.text.done":
            return Done(from_detailed(body["transcript"]))
    return None


def to_json(body: Json) -> str:
    return json.dumps(body, ensure_ascii=False, separators=(",", ":"))


Render = Callable[[Transcript, Collection[str]], str]

# name: (media type, the body's text from the transcript and the timestamp granularities)
FORMATS: dict[str, tuple[str, Render]] = {
    "json": ("application/json", lambda t, _: to_json(simple(t))),
    "text": ("text/plain; charset=utf-8", lambda t, _: t.text + "\n"),
    "srt": ("application/x-subrip; charset=utf-8", lambda t, _: srt(t)),
    "vtt": ("text/vtt; charset=utf-8", lambda t, _: vtt(t)),
    "verbose_json": ("application/json", lambda t, words: to_json(verbose_json(t, words))),
    "detailed_json": ("application/json", lambda t, _: to_json(detailed(t))),
}
