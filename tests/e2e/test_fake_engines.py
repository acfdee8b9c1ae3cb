"""Fake engines in the real graph: one that fails on a sample, and one without word times."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import numpy as np
import pytest
from ray import serve

from benchmarks.material.recordings import wav_bytes
from benchmarks.material.synthetic_audio import voice
from deployments.app import build
from deployments.config import AppConfig
from deployments.core.types import Audio
from deployments.engines.fake import POISON
from tests.e2e.conftest import Service
from tests.e2e.test_bad_input import PATH, assert_error

pytestmark = pytest.mark.ray

PAUSE = np.zeros(16_000, np.int16)


@pytest.fixture(scope="module", params=["asr", "plain"])
def fakes(service: Service, request: pytest.FixtureRequest) -> Iterator[str]:
    """An application with fake engines beside the real one. `plain` has no word times."""
    kind: str = request.param
    config = AppConfig.model_validate(
        {
            "models": {"vad": "fake:vad", "asr": f"fake:{kind}", "punctuation": "fake:punctuation"},
            "pools": {"only": {"num_cpus": 0.1, "batch_audio_s": 60, "speed": 1000}},
        }
    )
    service.put(kind, lambda: serve.run(build(config), name=kind, route_prefix=f"/{kind}"))
    yield f"{service.url}/{kind}"
    service.take_away(kind, lambda: serve.delete(kind))


def post(url: str, audio: Audio, **fields: str) -> httpx.Response:
    files = {"file": ("recording.wav", wav_bytes(audio))}
    return httpx.post(url + PATH, data=fields, files=files, timeout=60)


def three_voices(*, poisoned: bool) -> Audio:
    """Three segments. If poisoned, the second has a sample on which every fake engine fails."""
    second = voice(2000, seed=2)
    if poisoned:
        second[100] = POISON
    return np.concatenate([voice(1000, seed=1), PAUSE, second, PAUSE, voice(3000, seed=3)])


def test_a_bad_segment_is_named_and_costs_no_other(fakes: str) -> None:
    good = post(fakes, three_voices(poisoned=False), response_format="detailed_json").json()
    answer = post(fakes, three_voices(poisoned=True), response_format="detailed_json")
    body = answer.json()

    assert answer.status_code == 200
    assert len(body["segments"]) == 3
    assert [bool(s["error"]) for s in body["segments"]] == [False, True, False]
    assert [s["text"][:4] for s in body["segments"]] == [
        good["segments"][0]["text"][:4],
        "",
        good["segments"][2]["text"][:4],
    ]
    assert any("Segment 1" in warning for warning in body["warnings"])


def test_a_recording_without_a_good_segment_gets_an_error(fakes: str) -> None:
    audio = voice(1000, seed=1)
    audio[100] = POISON

    response = post(fakes, audio)

    assert_error(response, 500, "engine_failed")


@pytest.mark.parametrize("fakes", ["plain"], indirect=True)
def test_asking_an_engine_for_word_times_it_lacks_gets_a_400_with_its_name(fakes: str) -> None:
    asked = {"response_format": "verbose_json", "timestamp_granularities[]": "word"}

    response = post(fakes, three_voices(poisoned=False), **asked)

    assert_error(response, 400, "bad_request")
    assert response.json()["error"]["param"] == "timestamp_granularities[]"
    assert "fake:plain" in response.json()["error"]["message"]


@pytest.mark.parametrize("fakes", ["plain"], indirect=True)
def test_an_engine_without_word_times_marks_its_segments_as_approximate(fakes: str) -> None:
    body = post(fakes, three_voices(poisoned=False), response_format="detailed_json").json()

    assert all(segment["approximate"] for segment in body["segments"])
    assert not any(segment["words"] for segment in body["segments"])
    assert body["text"].count("。") == 3
