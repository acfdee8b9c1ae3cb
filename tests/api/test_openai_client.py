"""OpenAI's own client, the newest, with every field that it has, against the real HTTP front."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

import httpx2
import openai
import pytest
from openai.resources.audio import AsyncTranscriptions

from deployments.api.ingress import Front, create_app
from deployments.config import Limits
from deployments.core.types import Hints
from tests.clients.fakes import ENGINE, FakeHandle, FakeRouter

TEN_SECONDS = "data:audio/wav;base64," + "A" * 427_000  # a known speaker, 16 kHz
FIELDS: dict[str, Any] = {
    "file": ("a.wav", b"sound"),
    "model": "gpt-transcribe",
    "chunking_strategy": {"type": "server_vad", "threshold": 0.5, "prefix_padding_ms": 300},
    "include": ["logprobs"],
    "keywords": ["魔搭", "New York"],
    "known_speaker_names": ["agent", "customer"],
    "known_speaker_references": [TEN_SECONDS, TEN_SECONDS],
    "language": "zh",
    "languages": ["zh", "en"],
    "prompt": "会议",
    "response_format": "verbose_json",
    "stream": False,
    "temperature": 0.2,
    "timestamp_granularities": ["word", "segment"],
}
OPTIONS = {"self", "extra_headers", "extra_query", "extra_body", "timeout"}  # no fields


async def create(router: FakeRouter, **fields: Any) -> tuple[str, str]:
    """The text that the client reads, and the `warnings` header."""
    app = create_app(Front(FakeHandle(router), ENGINE, Limits()))
    async with (
        httpx2.AsyncClient(transport=httpx2.ASGITransport(app)) as http,
        openai.AsyncOpenAI(
            api_key="none", base_url="http://here/v1", http_client=http, max_retries=0
        ) as client,
    ):
        raw = await client.audio.transcriptions.with_raw_response.create(**fields)
        parsed = raw.parse()
        if fields.get("stream"):
            events = [event async for event in parsed]
            return events[-1].text, raw.headers.get("warnings", "")
        text = parsed if isinstance(parsed, str) else parsed.text
        return text, raw.headers.get("warnings", "")


def test_every_field_of_the_client_is_tried_here() -> None:
    parameters = set(inspect.signature(AsyncTranscriptions.create).parameters)

    assert parameters - OPTIONS == set(FIELDS)


def test_every_field_at_once_is_understood_or_named() -> None:
    router = FakeRouter()

    text, warnings = asyncio.run(create(router, **FIELDS))

    assert text.startswith("今天天气很好")
    assert warnings.split(", ") == [
        "chunking_strategy",
        "include[]",
        "known_speaker_names[]",
        "known_speaker_references[]",
        "temperature",
        "no text for segments 2",  # in the example
    ]
    (seen,) = router.seen
    assert seen.model == "gpt-transcribe"
    assert seen.hints == Hints(language="zh", prompt="会议", hotwords=("魔搭", "New York"))
    assert seen.word_times


@pytest.mark.parametrize("name", sorted(set(FIELDS) - {"file", "model"}))
def test_each_field_alone_is_accepted(name: str) -> None:
    formats = {"response_format": "verbose_json"} if name == "timestamp_granularities" else {}
    fields = {key: FIELDS[key] for key in ("file", "model", name)}

    text, _ = asyncio.run(create(FakeRouter(), **(formats | fields)))

    assert text.startswith("今天天气很好")


@pytest.mark.parametrize("response_format", ["json", "text", "srt", "verbose_json", "vtt"])
def test_every_format_but_the_one_with_speakers_is_parsed(response_format: str) -> None:
    changes = {"response_format": response_format, "timestamp_granularities": []}

    text, _ = asyncio.run(create(FakeRouter(), **FIELDS | changes))

    assert "今天天气很好" in text


def test_a_format_with_speakers_is_refused_with_the_formats_that_there_are() -> None:
    with pytest.raises(openai.BadRequestError, match="json, text, srt") as caught:
        asyncio.run(create(FakeRouter(), **FIELDS | {"response_format": "diarized_json"}))

    assert caught.value.param == "response_format"


def test_a_stream_with_every_field_ends_with_the_text() -> None:
    fields = FIELDS | {"stream": True, "response_format": "json", "timestamp_granularities": []}

    text, warnings = asyncio.run(create(FakeRouter(), **fields))

    assert text.startswith("今天天气很好")
    assert "temperature" in warnings
