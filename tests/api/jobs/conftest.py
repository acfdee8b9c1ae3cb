"""The service of jobs, and a server of recordings that it may ask."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from deployments.service_settings import Fetch
from tests.api.jobs.played import BROKEN, HELD, Played

SOUND = b"RIFF and so on"
EXAMPLES = {"https://example.com/a.mp3": SOUND, "https://example.com/b.mp3": BROKEN}
RECORDINGS = {"/a.wav": SOUND, "/broken.wav": BROKEN, "/held.wav": HELD}


class _Recordings(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = RECORDINGS.get(self.path)
        self.send_response(404 if body is None else 200)
        self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        self.wfile.write(body or b"")

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="session")
def recordings() -> Iterator[str]:
    """The URL of a server that has some recordings."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Recordings) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def played(tmp_path: Path, recordings: str) -> Iterator[Played]:
    hosts = (recordings.removeprefix("http://"),)
    fetch = Fetch(enabled=True, allow_hosts=hosts)
    with Played(tmp_path, EXAMPLES, fetch).running() as played:
        yield played
