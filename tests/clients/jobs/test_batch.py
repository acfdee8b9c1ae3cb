"""`transcribe FOLDER -o OUT`: by jobs and without, interrupted and run again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from clients.cli import app
from clients.http import Client
from tests.clients.fakes import AsgiTransport, FakeRouter, failing
from tests.clients.jobs.service import JobService, soon
from tests.clients.test_cli import INVALID_AUDIO
from tests.core.transcripts import PARAFORMER

Run = Callable[..., Result]
NAMES = ("a.wav", "b.mp3", "sub/c.flac")
WRITTEN = {"a.txt": "", "b.txt": "", "sub/c.txt": ""}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with three recordings, and something else."""
    folder = tmp_path / "in"
    for i, name in enumerate(NAMES):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"1" * (i + 5))
    (folder / "notes.md").write_text("mine")
    return folder


@pytest.fixture
def run(service: JobService, folder: Path) -> Run:
    """Transcribes the folder into `out` beside it, with the jobs of the service."""
    return lambda *more: CliRunner().invoke(app, [*command(folder), *more, "--url", service.url])


def command(folder: Path) -> list[str]:
    return ["transcribe", str(folder), "-o", str(folder.parent / "out")]


def texts(folder: Path) -> dict[str, str]:
    """Every file that was written, by its name, the hidden ones too."""
    out = folder.parent / "out"
    found = [path for path in out.rglob("*") if path.is_file()]
    return {str(path.relative_to(out)): path.read_text("utf-8") for path in found}


def all_written() -> dict[str, str]:
    return dict.fromkeys(WRITTEN, PARAFORMER.text + "\n")


def test_every_recording_of_a_folder_is_a_job_once(
    run: Run, folder: Path, service: JobService
) -> None:
    first, second = run(), run()

    assert (first.exit_code, second.exit_code) == (0, 0)
    assert texts(folder) == all_written()
    assert Counter(service.heard) == Counter({"a.wav": 1, "b.mp3": 1, "c.flac": 1})
    assert first.stderr.endswith("3 written, 0 done before, 0 failed\n")
    assert second.stderr == "0 written, 3 done before, 0 failed\n"
    assert "3/3 " in first.stderr


def test_a_recording_that_is_newer_than_its_transcript_is_done_again(
    run: Run, folder: Path, service: JobService
) -> None:
    run()
    (folder / "a.wav").write_bytes(b"other")
    os.utime(folder / "a.wav", ns=(2**62, 2**62))

    result = run()

    assert result.stderr.endswith("1 written, 2 done before, 0 failed\n")
    assert Counter(service.heard)["a.wav"] == 2


def test_a_transcript_that_was_removed_costs_no_second_recognition(
    run: Run, folder: Path, service: JobService
) -> None:
    run()
    (folder.parent / "out" / "a.txt").unlink()

    run()

    assert texts(folder) == all_written()
    assert Counter(service.heard)["a.wav"] == 1


def test_force_recognises_all_anew(run: Run, service: JobService) -> None:
    run()

    result = run("--force")

    assert result.exit_code == 0
    assert set(Counter(service.heard).values()) == {2}


def test_a_failed_recording_is_told_at_the_end_and_tried_again_by_the_next_run(
    run: Run, folder: Path, service: JobService
) -> None:
    about = (folder / "a.wav").stat()
    (folder / "a.wav").write_bytes(b"fail5")
    os.utime(folder / "a.wav", ns=(about.st_atime_ns, about.st_mtime_ns))

    first, second = run(), run()

    assert (first.exit_code, second.exit_code) == (1, 1)
    assert first.stderr.splitlines()[-2:] == [
        "a.wav: No sound.",
        "2 written, 0 done before, 1 failed",
    ]
    assert Counter(service.heard) == Counter({"a.wav": 2, "b.mp3": 1, "c.flac": 1})
    assert "a.txt" not in texts(folder)


def test_other_bytes_of_the_same_size_and_time_are_another_job(
    run: Run, folder: Path, service: JobService
) -> None:
    about = (folder / "a.wav").stat()
    run()
    (folder / "a.wav").write_bytes(b"99999")
    os.utime(folder / "a.wav", ns=(about.st_atime_ns, about.st_mtime_ns))
    (folder.parent / "out" / "a.txt").unlink()

    result = run()

    assert result.exit_code == 0
    assert Counter(service.heard)["a.wav"] == 2


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_command_that_was_ended_goes_on_with_the_same_jobs(
    run: Run, folder: Path, service: JobService, number: signal.Signals
) -> None:
    (folder / "b.mp3").write_bytes(b"hold12")
    arguments = [sys.executable, "-m", "clients", *command(folder), "--url", service.url]
    with subprocess.Popen([*arguments, "-j", "1"], stderr=subprocess.DEVNULL) as process:
        is_in_the_middle = soon(lambda: "b.mp3" in service.heard)
        process.send_signal(number)
        process.wait(timeout=60)
    between = texts(folder)
    service.release()

    result = run()

    assert is_in_the_middle
    assert between == {"a.txt": PARAFORMER.text + "\n"}
    assert (result.exit_code, texts(folder)) == (0, all_written())
    assert Counter(service.heard) == Counter({"a.wav": 1, "b.mp3": 1, "c.flac": 1})


@pytest.fixture
def plain(folder: Path) -> Any:
    """Transcribes the folder with a service that takes no jobs."""
    router = FakeRouter()

    def connect(url: str, *, timeout_s: float, api_key: str | None) -> Client:
        return Client(url, timeout_s=timeout_s, attempts=1, transport=AsgiTransport(router))

    return router, lambda *more: CliRunner().invoke(app, [*command(folder), *more], obj=connect)


def test_without_jobs_each_recording_is_a_request(plain: Any, folder: Path) -> None:
    router, run = plain

    first, second = run("--itn"), run("--itn")

    assert (first.exit_code, second.exit_code) == (0, 0)
    assert texts(folder) == all_written()
    assert [options.itn for options in router.seen] == [True] * 3


def test_a_failed_request_costs_only_its_recording(plain: Any, folder: Path) -> None:
    _, run = plain
    (folder / "b.mp3").write_bytes(failing(INVALID_AUDIO))

    result = run()

    assert result.exit_code == 1
    assert sorted(texts(folder)) == ["a.txt", "sub/c.txt"]
    assert "b.mp3: The file is empty." in result.stderr


def test_a_folder_needs_a_folder_for_its_transcripts(plain: Any, folder: Path) -> None:
    result = CliRunner().invoke(app, ["transcribe", str(folder)])

    assert result.exit_code == 2
    assert "A folder needs -o DIR" in result.stderr


def test_a_service_that_is_not_there_fails_the_command_once(folder: Path) -> None:
    arguments = [*command(folder), "--url", "http://127.0.0.1:9"]

    result = CliRunner().invoke(app, arguments)

    assert result.exit_code == 1
    assert result.stderr.count("gave up") == 1
    assert not (folder.parent / "out").exists()
