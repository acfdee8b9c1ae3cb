"""A page of another origin, in a real browser, sends a recording with `fetch` and reads all."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from benchmarks.machine import free_port
from benchmarks.material.recordings import wav_bytes
from benchmarks.material.synthetic_audio import voice
from deployments.config import AppConfig
from deployments.serve import running
from tests.e2e.test_bad_input import PATH

CHROMIUM = shutil.which("chromium")

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
]

PAGE = """<!doctype html><meta charset="utf-8"><body>waiting<script type="module">
const wav = Uint8Array.from(atob("%(wav)s"), (letter) => letter.charCodeAt(0));
const form = new FormData();
form.append("file", new Blob([wav]), "录音.wav");
form.append("vad_filter", "true");
const shown = {};
try {
  const headers = {"x-request-id": "from-a-page"};  // makes the browser ask first
  const answer = await fetch("%(url)s", {method: "POST", body: form, headers});
  shown.status = answer.status;
  shown.warnings = answer.headers.get("warnings");
  shown.text = (await answer.json()).text;
} catch (error) {
  shown.error = String(error);
}
document.body.textContent = JSON.stringify(shown);
</script>"""


class Quiet(SimpleHTTPRequestHandler):
    """Serves a folder without a line for each request."""

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[str]:
    """The origin of a server for the files of `tmp_path`."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=tmp_path)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def shown_by(page: str, profile: Path) -> dict[str, str | int]:
    """What the page has in its body once its script has ended."""
    assert CHROMIUM is not None
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    command += [f"--user-data-dir={profile}", "--virtual-time-budget=60000", page]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=True)
    body = done.stdout.split("<body>")[1].split("</body>")[0]
    shown: dict[str, str | int] = json.loads(body)
    return shown


def test_a_page_of_another_origin_is_served_where_the_configuration_names_it(
    tmp_path: Path, elsewhere: str
) -> None:
    config = AppConfig.model_validate(
        {
            "models": {"vad": "fake:vad", "asr": "fake:asr", "punctuation": "fake:punctuation"},
            "pools": {"only": {"num_cpus": 0.1, "speed": 1000}},
            "ingress": {"cors_origins": [elsewhere]},
        }
    )
    wav = base64.b64encode(wav_bytes(voice(3000, seed=1))).decode()
    with running(config, port=free_port(), num_cpus=2) as url:
        (tmp_path / "page.html").write_text(PAGE % {"wav": wav, "url": url + PATH}, "utf-8")
        allowed = shown_by(f"{elsewhere}/page.html", tmp_path / "profile")
        stranger = elsewhere.replace("127.0.0.1", "localhost")
        refused = shown_by(f"{stranger}/page.html", tmp_path / "profile")

    assert allowed["status"] == 200
    assert allowed["text"]
    assert "vad_filter" in str(allowed["warnings"])
    assert refused == {"error": "TypeError: Failed to fetch"}
