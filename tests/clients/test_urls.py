"""Recordings that a client names by a URL: they are sent as a field, and never read here."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from clients.cli import app
from clients.http import AsyncClient, Client
from clients.outputs import plan
from clients.ray_handle import Transcriber
from clients.request import Url
from deployments.core.errors import BadRequest
from tests.clients.fakes import run
from tests.clients.servers import FINE, answering
from tests.clients.test_attempts import done, stream

ADDRESS = "https://example.com/a.mp3?key=x/y.wav"
FIELD = f'name="url"\r\n\r\n{ADDRESS}\r\n'.encode()


async def transcribed(url: str) -> None:
    async with AsyncClient(url) as client:
        await client.transcribe(Url(ADDRESS))


def test_a_url_is_a_field_in_place_of_the_file() -> None:
    with answering(FINE) as server, Client(server.url) as client:
        client.transcribe(Url(ADDRESS), itn=True)
        run(transcribed(server.url))

    assert [FIELD in body for body in server.bodies] == [True, True]
    assert [b'name="file"' in body for body in server.bodies] == [False, False]
    assert b'name="itn"' in server.bodies[0]


def test_the_command_line_takes_a_url_for_a_file() -> None:
    with answering(stream(done())) as server:
        result = CliRunner().invoke(app, ["transcribe", ADDRESS, "--url", server.url])

    assert result.exit_code == 0
    assert FIELD in server.bodies[0]


def test_the_transcript_of_a_url_has_the_name_of_its_path() -> None:
    names = [ADDRESS, "https://example.com"]

    assert [job.output for job in plan(names, Path("out"), "txt")] == [
        Path("out/a.txt"),
        Path("out/recording.txt"),
    ]


def test_a_router_is_sent_no_url() -> None:
    with pytest.raises(BadRequest, match="Only HTTP and jobs take a URL"):
        Transcriber(handle=object()).transcribe(Url(ADDRESS))
