"""Alibaba's own SDK against the whole graph on a real Ray, below a prefix of the path."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import dashscope
import numpy as np
import pytest
import requests
from dashscope.audio.asr import Transcription
from ray import serve

from benchmarks.material.recordings import wav_bytes
from benchmarks.material.synthetic_audio import voice
from deployments.app import build
from deployments.config import AppConfig
from tests.e2e.conftest import Service

pytestmark = [pytest.mark.ray, pytest.mark.slow]

PAUSE = np.zeros(16_000, np.int16)
SOUND = wav_bytes(np.concatenate([voice(1000, seed=1), PAUSE, voice(2000, seed=2)]))
LONG = wav_bytes(np.concatenate([p for i in range(60) for p in (voice(5000, seed=i), PAUSE)]))


class _Files(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a folder with two recordings, and a file that is none."""
    folder: Path = tmp_path_factory.mktemp("recordings")
    (folder / "good.wav").write_bytes(SOUND)
    (folder / "long.wav").write_bytes(LONG)
    (folder / "broken.wav").write_bytes(b"this is no sound")
    handler = partial(_Files, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def served(
    service: Service, recordings: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The base URL of the SDK. The engine sleeps for a tenth of the audio's length."""
    config = AppConfig.model_validate(
        {
            "models": {"vad": "fake:vad", "asr": "fake:slow", "punctuation": "fake:punctuation"},
            "pools": {"only": {"num_cpus": 0.1, "batch_audio_s": 30, "speed": 10}},
            "jobs": {"enabled": True},
            "fetch": {"enabled": True, "allow_hosts": [recordings.removeprefix("http://")]},
            "storage": {"data_dir": str(tmp_path_factory.mktemp("data"))},
        }
    )
    name = "dashscope"
    service.put(name, lambda: serve.run(build(config), name=name, route_prefix=f"/{name}"))
    yield f"{service.url}/{name}/api/v1"
    service.take_away(name, lambda: serve.delete(name))


@pytest.fixture(autouse=True)
def sdk(served: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(dashscope, "base_http_api_url", served)
    monkeypatch.setattr(dashscope, "api_key", "none")


def test_the_sdk_submits_waits_and_fetches(served: str, recordings: str) -> None:
    urls = [f"{recordings}/good.wav", f"{recordings}/broken.wav"]

    task = Transcription.async_call(model="paraformer-v2", file_urls=urls)
    done = Transcription.wait(task, wait_timeout=120)
    good, broken = done.output.results
    found = requests.get(good["transcription_url"], timeout=10).json()
    listed = Transcription.list(status="SUCCEEDED").output

    assert done.output.task_status == "SUCCEEDED"
    assert done.output.task_metrics == {"TOTAL": 2, "SUCCEEDED": 1, "FAILED": 1}
    assert done.usage == {"duration": 4}
    assert (broken["subtask_status"], broken["code"]) == ("FAILED", "InvalidFile.Format")
    assert good["transcription_url"].startswith(served.removesuffix("/api/v1"))
    assert found["properties"]["original_duration_in_milliseconds"] == 4000
    (transcript,) = found["transcripts"]
    assert len(transcript["sentences"]) == 2
    assert transcript["text"] == "".join(one["text"] for one in transcript["sentences"])
    assert task.output.task_id in [one["task_id"] for one in listed["data"]]


def test_a_task_is_canceled_while_it_runs(recordings: str) -> None:
    task = Transcription.async_call(model="paraformer-v2", file_urls=[f"{recordings}/long.wav"])

    canceled = Transcription.cancel(task)
    done = Transcription.wait(task, wait_timeout=120)

    assert canceled.status_code == 200
    assert done.output.task_status == "CANCELED"
