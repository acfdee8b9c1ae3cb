"""The command line over a fake Router, in an empty folder with two recordings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from clients.cli import app
from clients.http import Client
from tests.clients.fakes import AsgiTransport, FakeRouter


@pytest.fixture
def router() -> FakeRouter:
    return FakeRouter()


@pytest.fixture
def transcribe(
    router: FakeRouter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Result]:
    """Runs `transcribe` in an empty folder that has a.wav and z.wav."""
    monkeypatch.chdir(tmp_path)
    Path("a.wav").write_bytes(b"12345")
    Path("z.wav").write_bytes(b"1234567")

    def connect(url: str, *, timeout_s: float, api_key: str | None) -> Client:
        return Client(url, timeout_s=timeout_s, attempts=1, transport=AsgiTransport(router))

    def invoke(*arguments: str) -> Result:
        return CliRunner().invoke(app, ["transcribe", *arguments], obj=connect)

    return invoke
