"""A response format is one row of `FORMATS`, which the service and the command line read."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner, Result

from clients.cli import app
from clients.http import Client
from deployments.api.openapi import document
from deployments.config import Limits
from deployments.core.formats import FORMATS, Format
from deployments.core.types import Transcript
from tests.clients.fakes import AsgiTransport, FakeRouter

Post = Callable[..., httpx.Response]
Run = Callable[..., Result]


def lyrics(transcript: Transcript, granularities: object) -> str:
    """One line a segment, with its start in minutes, seconds and hundredths."""
    starts = [(s.start_ms // 60_000, s.start_ms % 60_000 / 1000) for s in transcript.segments]
    return "".join(
        f"[{minutes:02d}:{seconds:05.2f}]{segment.text}\n"
        for (minutes, seconds), segment in zip(starts, transcript.segments, strict=True)
    )


LRC = Format(
    media_type="application/x-lrc; charset=utf-8",
    render=lyrics,
    extension="lrc",
    write_event=None,
    timed=False,
    has_word_times=False,
    one_per_file=True,
)
FIRST_LINE = "[00:00.50]今天天气很好，我们去公园。\n"


@pytest.fixture(autouse=True)
def _lrc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FORMATS, "lrc", LRC)


@pytest.fixture
def post() -> Post:
    """Sends a form to the service, over a router that answers with the example."""

    def send(**fields: str) -> httpx.Response:
        with httpx.Client(transport=AsgiTransport(FakeRouter()), base_url="http://asr") as client:
            files = {"file": ("a.wav", b"sound")}
            return client.post("/v1/audio/transcriptions", data=fields, files=files)

    return send


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the command line in a folder that has a.wav and b.wav."""
    monkeypatch.chdir(tmp_path)
    Path("a.wav").write_bytes(b"12345")
    Path("b.wav").write_bytes(b"1234567")

    def connect(url: str, *, timeout_s: float, api_key: str | None) -> Client:
        return Client(url, timeout_s=timeout_s, attempts=1, transport=AsgiTransport(FakeRouter()))

    return lambda *arguments: CliRunner().invoke(app, arguments, obj=connect)


def test_the_service_answers_in_the_new_format(post: Post) -> None:
    answer = post(response_format="lrc")

    assert (answer.status_code, answer.headers["content-type"]) == (200, LRC.media_type)
    assert answer.text.startswith(FIRST_LINE)


@pytest.mark.parametrize(
    "field", [{"stream": "true"}, {"timestamp_granularities[]": "word"}], ids=["stream", "times"]
)
def test_the_form_refuses_what_does_not_go_with_the_new_format(
    post: Post, field: dict[str, str]
) -> None:
    answer = post(response_format="lrc", **field)

    assert answer.status_code == 400
    assert "goes with response_format" in answer.json()["error"]["message"]
    assert "lrc" not in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ({"stream": "true"}, {"write_event": lambda event: {"type": "line"}}),
        ({"timestamp_granularities[]": "segment"}, {"timed": True}),
    ],
    ids=["stream", "times"],
)
def test_the_form_allows_what_the_row_allows(
    post: Post, monkeypatch: pytest.MonkeyPatch, field: dict[str, str], change: dict[str, Any]
) -> None:
    monkeypatch.setitem(FORMATS, "lrc", dataclasses.replace(LRC, **change))

    answer = post(response_format="lrc", **field)

    assert answer.status_code == 200


def test_a_stream_is_written_as_the_row_says(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    row = dataclasses.replace(LRC, write_event=lambda event: {"type": type(event).__name__})
    monkeypatch.setitem(FORMATS, "lrc", row)

    answer = post(response_format="lrc", stream="true")

    assert answer.text.startswith('data: {"type":"Delta"}\n\ndata: {"type":"Progress"}\n\n')


def test_another_name_is_refused_with_the_names_there_are(post: Post) -> None:
    answer = post(response_format="lyrics")

    assert answer.status_code == 400
    assert answer.json()["error"]["message"].endswith("detailed_json, lrc.")


def test_the_description_names_the_new_format_and_its_media_type() -> None:
    described = document(Limits())["paths"]["/v1/audio/transcriptions"]["post"]

    form = described["requestBody"]["content"]["multipart/form-data"]["schema"]["properties"]
    assert "lrc" in form["response_format"]["enum"]
    assert LRC.media_type in described["responses"]["200"]["content"]


def test_the_command_line_writes_the_new_format_into_files_of_its_extension(run: Run) -> None:
    result = run("transcribe", "a.wav", "b.wav", "-f", "lrc", "-o", ".")

    assert result.exit_code == 0
    assert Path("a.lrc").read_text("utf-8").startswith(FIRST_LINE)
    assert Path("b.lrc").is_file()


def test_the_command_line_prints_one_transcript_of_the_new_format_at_most(run: Run) -> None:
    result = run("transcribe", "a.wav", "b.wav", "-f", "lrc")

    assert result.exit_code == 2
    assert "Several files as lrc need -o DIR" in result.stderr


def test_the_command_line_refuses_another_name(run: Run) -> None:
    result = run("transcribe", "a.wav", "-f", "lyrics")

    assert result.exit_code == 2
    assert "is not one of" in result.stderr


@pytest.mark.parametrize("fact", [field.name for field in dataclasses.fields(Format)])
def test_a_row_that_lacks_a_fact_cannot_be_made(fact: str) -> None:
    facts = {field.name: getattr(LRC, field.name) for field in dataclasses.fields(Format)}
    del facts[fact]

    with pytest.raises(TypeError, match=fact):
        Format(**facts)
