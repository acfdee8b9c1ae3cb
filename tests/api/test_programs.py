"""Real programs and libraries over real HTTP, each as its users call it."""

from __future__ import annotations

import asyncio
import io
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
import requests
import uvicorn

from deployments.api.ingress import Front, create_app
from deployments.config import Limits
from deployments.core.types import StreamEvent, TranscribeOptions, Upload
from tests.clients.fakes import ENGINE, FakeHandle, FakeRouter

SOUND = bytes(range(256)) * 800
PAGE = "https://notes.example.com"
TEXT = "今天天气很好，我们去公园。"
# What a page of another origin does. Node's fetch writes the form as browsers do.
FETCH = """
const form = new FormData();
form.append('file', new Blob([Uint8Array.from({length: 204800}, (_, i) => i)]));
form.append('model', 'whisper-1'); form.append('language', undefined);
const answer = await fetch(process.argv[2], {method: 'POST', body: form,
  headers: {Authorization: 'Bearer none', Origin: 'https://notes.example.com'}});
console.log(answer.headers.get('access-control-allow-origin'), (await answer.json()).text);
"""


@dataclass(frozen=True)
class Served:
    url: str
    router: RecordingRouter


class RecordingRouter(FakeRouter):
    """Remembers the recordings too."""

    def __init__(self) -> None:
        super().__init__()
        self.uploads: list[bytes] = []

    def stream(self, upload: Upload, options: TranscribeOptions) -> Iterator[StreamEvent]:
        self.uploads.append(bytes(upload))
        return super().stream(upload, options)


@pytest.fixture
def served() -> Iterator[Served]:
    router = RecordingRouter()
    app = create_app(Front(FakeHandle(router), ENGINE, Limits()), (PAGE,))
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    deadline_s = time.monotonic() + 30
    while not server.started:
        assert time.monotonic() < deadline_s, "the server does not start"
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield Served(f"http://127.0.0.1:{port}/v1/audio/transcriptions", router)
    server.should_exit = True
    thread.join()


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "录音.wav"
    path.write_bytes(SOUND)
    return path


def run(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, timeout=60, check=True)
    return done.stdout.decode()


def expect(served: Served, text: str) -> None:
    """The recording and the options arrived, and the text came back."""
    assert TEXT in text
    assert served.router.uploads == [SOUND]
    assert served.router.seen == [TranscribeOptions(model="whisper-1", timed=False)]


@pytest.mark.skipif(not shutil.which("curl"), reason="there is no curl")
@pytest.mark.parametrize("how", ["-F file=@{}", "-F 'file=<{}'", "-F file=@- <{}"])
def test_curl(served: Served, recording: Path, how: str) -> None:
    command = f"curl -sS --noproxy '*' {how.format(recording)} -F model=whisper-1 {served.url}"

    expect(served, run("sh", "-c", command))


@pytest.mark.parametrize("name", ["a.wav", "录音.wav", None])
def test_requests(served: Served, name: str | None) -> None:
    with requests.Session() as session:
        session.trust_env = False
        answer = session.post(
            served.url,
            files={"file": (name, SOUND)},
            data={"model": "whisper-1", "stream": False},
            timeout=60,
        )

    expect(served, answer.json()["text"])


@pytest.mark.parametrize("name", ["a.wav", "录音.wav", None])
def test_aiohttp(served: Served, name: str | None) -> None:
    async def post() -> str:
        form = aiohttp.FormData({"model": "whisper-1"})
        form.add_field("file", io.BytesIO(SOUND), filename=name)
        async with (
            aiohttp.ClientSession() as session,
            session.post(served.url, data=form) as answer,
        ):
            return str((await answer.json())["text"])

    expect(served, asyncio.run(post()))


@pytest.mark.skipif(not shutil.which("node"), reason="there is no node")
def test_fetch_from_another_origin(served: Served, tmp_path: Path) -> None:
    script = tmp_path / "fetch.mjs"
    script.write_text(FETCH, "utf-8")

    origin, text = run("node", script, served.url).split(" ", 1)

    assert origin == PAGE
    expect(served, text)
