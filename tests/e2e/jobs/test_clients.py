"""Jobs on real Ray by every client: HTTP, asyncio, a Ray handle and the command line."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import ray
import srt as srt_parser

from benchmarks.machine import free_port
from benchmarks.material.recordings import wav_bytes
from benchmarks.material.synthetic_audio import voice
from clients.http import AsyncClient, Client
from clients.jobs.model import Job, JobSegment
from deployments.config import AppConfig
from deployments.core.formats import detailed
from deployments.serve import running
from tests.clients.jobs.service import soon
from tests.e2e.living import Living
from tests.e2e.test_three_ways import output_of, stable

pytestmark = [pytest.mark.ray, pytest.mark.slow]

LIMIT_S = 120.0
N_RECORDINGS = 6
SHORT = wav_bytes(voice(8_000, seed=1))
LONG = wav_bytes(voice(120_000, seed=2))

BY_HANDLE = """
import json, sys
from clients.ray_handle import Transcriber
from deployments.core.formats import detailed
jobs = Transcriber(address=sys.argv[1]).jobs
job = jobs.submit(sys.argv[2], name="by handle")
events = list(jobs.events(job))
assert events[-1] == jobs.wait(job), events[-1]
assert job.id in [one.id for one in jobs.list().jobs]
assert jobs.export(job, "srt")
print(json.dumps([job.id, len(events), detailed(jobs.result(job))]))
"""


@pytest.fixture(scope="module")
def living(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Living]:
    """A service with jobs. Its engine reads 5 audio seconds a second."""
    config = AppConfig.model_validate(
        {
            "models": {"vad": "fake:vad", "asr": "fake:slow", "punctuation": "fake:punctuation"},
            "pools": {"only": {"num_cpus": 0.1, "speed": 5, "batch_audio_s": 10}},
            "jobs": {"enabled": True},
            "storage": {"data_dir": str(tmp_path_factory.mktemp("data"))},
        }
    )
    port = free_port()
    service = Living(lambda: running(config, port=port, num_cpus=4), patience_s=0.1)
    yield service
    service.stop()


@pytest.fixture
def url(living: Living) -> str:
    return living.url


def command(url: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "clients", *arguments, "--url", url]


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "录音.wav"
    path.write_bytes(SHORT)
    return path


def test_every_client_gives_the_same_transcript(url: str, recording: Path) -> None:
    async def by_asyncio() -> tuple[list[object], object]:
        async with AsyncClient(url) as client:
            job = await client.jobs.submit(recording)
            events = [event async for event in client.jobs.events(job, timeout_s=LIMIT_S)]
            return list(events), await client.jobs.result(job)

    with Client(url) as client:
        job = client.jobs.wait(client.jobs.submit(recording, name="会议"), timeout_s=LIMIT_S)
        by_http = client.jobs.result(job)
        at_once = client.transcribe(recording)
    events, by_async = asyncio.run(by_asyncio())
    told = output_of(
        *(sys.executable, "-c", BY_HANDLE),
        *(str(ray.get_runtime_context().gcs_address), str(recording)),
    )
    _, n_events, by_handle = json.loads(told.splitlines()[-1])

    expected = stable(detailed(at_once))
    assert (job.state, job.name, job.files[0].name) == ("completed", "会议", "录音.wav")
    assert stable(detailed(by_http)) == expected
    assert stable(detailed(by_async)) == expected  # type: ignore[arg-type]
    assert stable(by_handle) == expected
    assert n_events > len(by_http.segments)
    texts = [event.text for event in events if isinstance(event, JobSegment)]
    assert texts == [segment.text for segment in by_http.segments]
    assert isinstance(events[-1], Job)


def test_the_command_line_submits_watches_and_fetches(url: str, recording: Path) -> None:
    job = output_of(*command(url, "submit", str(recording))).strip()
    watched = subprocess.run(
        command(url, "watch", job), capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    subtitles = output_of(*command(url, "result", job, "-f", "srt"))
    listed = output_of(*command(url, "list", "--state", "completed"))

    assert watched.returncode == 0, watched.stderr
    assert watched.stderr.endswith(f"{job} 录音.wav: completed\n")
    assert list(srt_parser.parse(subtitles))
    assert job in listed


def test_a_job_is_canceled_while_it_is_worked_at(url: str, tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    path.write_bytes(LONG)
    with Client(url) as client:
        job = client.jobs.submit(path)
        first = next(e for e in client.jobs.events(job) if isinstance(e, JobSegment))

        told = output_of(*command(url, "cancel", job.id))

        assert first.index == 0
        assert told == f"{job.id} canceled\n"
        assert client.jobs.wait(job, timeout_s=LIMIT_S).state == "canceled"


def test_a_folder_is_gone_on_with_after_a_kill(url: str, tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    (folder / "sub").mkdir(parents=True)
    for i in range(N_RECORDINGS):
        (folder / ("sub" if i % 2 else "") / f"{i}.wav").write_bytes(
            wav_bytes(voice(8_000, seed=10 + i))
        )
    transcribe = command(url, "transcribe", str(folder), "-o", str(out), "-j", "2")
    with subprocess.Popen(transcribe, stderr=subprocess.DEVNULL) as process:
        is_in_the_middle = soon(lambda: any(out.rglob("*.txt")))
        process.kill()
    between = {path: path.stat().st_mtime_ns for path in out.rglob("*.txt")}

    again = subprocess.run(transcribe, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    names = [f"{i}.wav" for i in range(N_RECORDINGS)]
    with Client(url) as client:
        jobs = [job for job in client.jobs.list(limit=100).jobs if job.files[0].name in names]

    assert is_in_the_middle
    assert 0 < len(between) < N_RECORDINGS
    assert again.returncode == 0, again.stderr
    assert f"{len(between)} done before, 0 failed" in again.stderr
    assert len(list(out.rglob("*.txt"))) == N_RECORDINGS
    assert {path: path.stat().st_mtime_ns for path in between} == between
    assert sorted(job.files[0].name for job in jobs) == names  # one job each
    assert {job.state for job in jobs} == {"completed"}


def test_waiting_and_events_outlast_a_restart_of_the_service(living: Living) -> None:
    with Client(living.url) as client, ThreadPoolExecutor(2) as pool:
        job = client.jobs.submit(LONG)
        waiting = pool.submit(client.jobs.wait, job, timeout_s=2 * LIMIT_S)
        events = client.jobs.events(job, timeout_s=2 * LIMIT_S)
        seen = [next(events), next(events), next(events)]
        living.stop()
        living.revive()
        seen += events
        ended = waiting.result()
        expected = client.jobs.result(job)

    texts = [event.text for event in seen if isinstance(event, JobSegment)]
    assert ended.is_completed
    assert texts == [segment.text for segment in expected.segments]
