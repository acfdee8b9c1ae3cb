"""HTTP, a Ray handle in another process and the command line give equal transcripts."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import openai
import pytest

from clients.http import Client
from deployments.core.formats import detailed
from deployments.core.types import Delta, Done, Progress
from tests.e2e.conftest import SAMPLE, Service
from tests.invariants import check_invariants

pytestmark = pytest.mark.ray

# Fields that may differ between two runs: the replica of a segment, and times.
VOLATILE = ("pool", "replica", "busy_ms", "attempts", "wall_ms")

BY_HANDLE = """
import json, sys
from clients.ray_handle import Transcriber
from deployments.core.formats import detailed
transcript = Transcriber(address=sys.argv[1]).transcribe(sys.argv[2])
print(json.dumps(detailed(transcript)))
"""


def stable(body: dict[str, Any]) -> dict[str, Any]:
    """A detailed transcript as JSON, without the fields that may differ."""
    body = json.loads(json.dumps(body))
    kept = {key: value for key, value in body.items() if key not in VOLATILE}
    kept["segments"] = [
        {key: value for key, value in segment.items() if key not in VOLATILE}
        for segment in body["segments"]
    ]
    return kept


def output_of(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_http_handle_and_command_line_give_the_same_transcript(service: Service) -> None:
    with Client(service.url) as client:
        by_http = client.transcribe(SAMPLE)
    by_handle = output_of(sys.executable, "-c", BY_HANDLE, service.ray_address, str(SAMPLE))
    by_cli = output_of(
        *(sys.executable, "-m", "clients", "transcribe", str(SAMPLE)),
        *("--url", service.url, "-f", "detailed_json"),
    )

    check_invariants(by_http)
    assert len(by_http.segments) > 20
    assert len(by_http.words) > 200
    assert stable(json.loads(by_handle.splitlines()[-1])) == stable(detailed(by_http))
    assert stable(json.loads(by_cli)) == stable(detailed(by_http))


def test_a_recording_is_spread_over_both_pools_and_all_replicas(service: Service) -> None:
    with Client(service.url) as client:
        transcript = client.transcribe(SAMPLE)

    replicas = {(segment.pool, segment.replica) for segment in transcript.segments}
    assert {pool for pool, _ in replicas} == {"wide", "narrow"}
    assert len(replicas) == 3


def test_the_stream_gives_the_same_text_in_order(service: Service) -> None:
    with Client(service.url) as client:
        expected = client.transcribe(SAMPLE)
        events = list(client.stream(SAMPLE))

    *before, last = events
    assert isinstance(last, Done)
    assert "".join(e.text for e in before if isinstance(e, Delta)) == expected.text
    assert last.transcript.text == expected.text
    done_ms = [e.done_ms for e in before if isinstance(e, Progress)]
    assert done_ms == sorted(done_ms)
    assert len(done_ms) > 3


def test_openais_own_client_works_also_for_streaming(service: Service) -> None:
    client = openai.OpenAI(base_url=f"{service.url}/v1", api_key="none")

    verbose = client.audio.transcriptions.create(
        file=SAMPLE,
        model="whisper-1",
        response_format="verbose_json",
        timestamp_granularities=["word", "segment"],
    )
    with SAMPLE.open("rb") as file:
        stream = client.audio.transcriptions.create(file=file, model="tiny-asr", stream=True)
        events = list(stream)

    assert client.models.retrieve("gpt-transcribe").id == "tiny-asr"
    assert verbose.words
    assert verbose.segments
    assert events[-1].type == "transcript.text.done"
    deltas = [event.delta for event in events if event.type == "transcript.text.delta"]
    assert "".join(deltas) == events[-1].text == verbose.text


def test_the_model_list_and_readiness_show_the_running_pools(service: Service) -> None:
    with Client(service.url) as client:
        (model,) = client.models()
        ready = client.ready()

    assert model["id"] == "tiny-asr"
    assert model["pools"] == {
        name: {"device": "cpu", "dtype": "fp32"} for name in ("wide", "narrow")
    }
    assert ready["ready"]
    assert {name: pool["replicas"] for name, pool in ready["pools"].items()} == {
        "wide": 1,
        "narrow": 2,
    }
