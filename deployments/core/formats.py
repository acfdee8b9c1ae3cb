"""Every response format of a transcript, and the events of a stream.

OpenAI's formats have times in seconds and exactly OpenAI's fields (openai-python, `types/audio`).
`detailed_json` is our own: it has integer milliseconds and the replica of each segment, and can be
read back into a transcript.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, fields
from functools import partial
from typing import Any, TypeVar

from deployments.core.subtitles import srt, vtt
from deployments.core.types import (
    Cue,
    Delta,
    Done,
    HotwordReport,
    Progress,
    StreamEvent,
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
    """Which hotwords were applied, if any were asked for. OpenAI's clients pass the key on."""
    return {"hotwords": asdict(transcript.hotwords)} if transcript.hotwords else {}


def simple(transcript: Transcript) -> Json:
    """OpenAI's `json`, with the name of the model added."""
    return {
        "text": transcript.text,
        "model": transcript.model,
        "usage": _usage(transcript),
        **_hotwords(transcript),
    }


def _verbose_segment(number: int, segment: TranscriptSegment) -> Json:
    """OpenAI's segment. Figures that are not known here are 0, and there are no tokens."""
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
    """OpenAI's `verbose_json`. Without granularities it has segments, as OpenAI's has."""
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
    """All that is known. `approximate` says that the engine gave no times inside the segment."""
    body = asdict(transcript)
    for segment in body["segments"]:
        segment["approximate"] = bool(segment["text"]) and not segment["words"]
    return {"task": "transcribe", **body}


def _read(kind: type[T], body: Mapping[str, Any], **made: object) -> T:
    """A dataclass from the keys that it has. A server of another version may send others too."""
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


def stream_event(event: StreamEvent, *, is_detailed: bool = False) -> Json | None:
    """The JSON of one event of a stream. None for an event that OpenAI's clients do not know.

    In the last event OpenAI's `usage` counts tokens. There are none here, so `usage` is left out
    and `duration` added. With `is_detailed`, for our own clients, progress is sent too and the
    last event has the whole transcript.
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


def from_stream_event(body: Mapping[str, Any]) -> StreamEvent | None:
    """The event that `stream_event` wrote with `is_detailed`. None for an unknown type."""
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
WriteEvent = Callable[[StreamEvent], Json | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """All that the service and its clients know of one `response_format`."""

    media_type: str
    render: Render  # the body, from the transcript and the timestamp granularities
    extension: str  # of the files that the command line writes
    write_event: WriteEvent | None  # one event with `stream=true`; None: refused with a stream
    timed: bool  # whether `timestamp_granularities[]` may be sent with it
    has_word_times: bool  # whether word times enter the body without that field too
    one_per_file: bool  # whether two transcripts in one file would be unreadable

    @property
    def streamable(self) -> bool:
        return self.write_event is not None


# The form, the ingress, the OpenAPI description and the command line read this table.
FORMATS: dict[str, Format] = {
    "json": Format(
        media_type="application/json",
        render=lambda transcript, _: to_json(simple(transcript)),
        extension="json",
        write_event=stream_event,
        timed=False,
        has_word_times=False,
        one_per_file=False,
    ),
    "text": Format(
        media_type="text/plain; charset=utf-8",
        render=lambda transcript, _: transcript.text + "\n",
        extension="txt",
        write_event=stream_event,
        timed=False,
        has_word_times=False,
        one_per_file=False,
    ),
    "srt": Format(
        media_type="application/x-subrip; charset=utf-8",
        render=lambda transcript, _: srt(transcript),
        extension="srt",
        write_event=None,
        timed=False,
        has_word_times=True,
        one_per_file=True,
    ),
    "vtt": Format(
        media_type="text/vtt; charset=utf-8",
        render=lambda transcript, _: vtt(transcript),
        extension="vtt",
        write_event=None,
        timed=False,
        has_word_times=True,
        one_per_file=True,
    ),
    "verbose_json": Format(
        media_type="application/json",
        render=lambda transcript, granularities: to_json(verbose_json(transcript, granularities)),
        extension="json",
        write_event=None,
        timed=True,
        has_word_times=False,
        one_per_file=False,
    ),
    "detailed_json": Format(
        media_type="application/json",
        render=lambda transcript, _: to_json(detailed(transcript)),
        extension="json",
        write_event=partial(stream_event, is_detailed=True),
        timed=True,
        has_word_times=True,
        one_per_file=False,
    ),
}
DEFAULT_FORMAT = "json"  # of a request, as OpenAI's
