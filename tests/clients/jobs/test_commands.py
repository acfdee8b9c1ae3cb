"""The commands for jobs: what they print, and their exit status."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import srt as srt_parser
from rich.console import Console
from typer.testing import CliRunner, Result

from clients.board import Board
from clients.cli import app
from clients.http import Client
from clients.jobs.model import Job, JobFile, JobProgress
from clients.options import progress_on
from tests.clients.jobs.service import JobService
from tests.clients.servers import answering
from tests.core.transcripts import PARAFORMER

Run = Callable[..., Result]


@pytest.fixture
def run(shared: JobService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command in an empty folder that has a.wav and bad.wav."""
    monkeypatch.chdir(tmp_path)
    Path("a.wav").write_bytes(b"12345")
    Path("bad.wav").write_bytes(b"fail")

    def invoke(*arguments: str) -> Result:
        return CliRunner().invoke(app, [*arguments, "--url", shared.url])

    return invoke


def submitted(run: Run, *arguments: str) -> list[str]:
    """The ids of jobs that have ended."""
    ids = run("submit", *arguments).stdout.split()
    run("watch", *ids)
    return ids


def test_submit_prints_the_id_of_each_job(run: Run, shared: JobService) -> None:
    options = ("--priority", "3", "--metadata", '{"team": "a"}', "--name", "weekly", "--itn")

    result = run("submit", "a.wav", "s3://calls/b.mp3", *options)

    with Client(shared.url) as client:
        jobs = [client.jobs.get(name) for name in result.stdout.split()]
    assert result.exit_code == 0
    assert [job.files[0].name for job in jobs] == ["a.wav", "b.mp3"]
    assert [(job.name, job.priority) for job in jobs] == [("weekly", 3)] * 2
    assert jobs[0].metadata == {"team": "a"}


def test_several_urls_may_be_one_job(run: Run) -> None:
    result = run("submit", "--together", "s3://calls/a.mp3", "s3://calls/b.mp3")

    assert len(result.stdout.split()) == 1


def test_a_file_that_cannot_be_submitted_costs_only_itself(run: Run) -> None:
    result = run("submit", "none.wav", "a.wav", "s3://secrets/a.mp3")

    assert (result.exit_code, len(result.stdout.split())) == (1, 1)
    assert "none.wav: " in result.stderr
    assert "s3://secrets/a.mp3: The setting fetch.buckets" in result.stderr


def test_watch_tells_the_states_and_whether_all_are_completed(run: Run) -> None:
    good, bad = run("submit", "a.wav", "bad.wav").stdout.split()

    both, one = run("watch", good, bad), run("watch", good, good)

    assert (both.exit_code, one.exit_code) == (1, 0)
    assert f"{good} a.wav: completed" in both.stderr
    assert f"{bad} bad.wav: failed: No sound." in both.stderr
    assert one.stderr == f"{good} a.wav: completed\n"


def test_watch_names_a_job_that_is_not_there(run: Run) -> None:
    result = run("watch", "job_none")

    assert (result.exit_code, result.stderr) == (
        1,
        "job_none: There is no job 'job_none' here.\n",
    )


def test_a_terminal_has_a_bar_for_each_file() -> None:
    console = Console(force_terminal=True, width=80)
    files = tuple(JobFile(i, f"{i}.mp3", "processing", JobProgress(3.0, 4.0)) for i in range(2))
    job = Job("job_1", "weekly", "processing", JobProgress(6.0, 8.0), files, 0.0)

    with console.capture() as drawn, progress_on(console) as progress:
        board = Board(progress)
        board.show(job)
        board.show(job)
        progress.refresh()

    assert [(task.description, task.percentage) for task in progress.tasks] == [
        ("weekly: 0.mp3", 75.0),
        ("weekly: 1.mp3", 75.0),
    ]
    assert "75%" in drawn.get()


def test_a_result_is_printed_or_written_in_any_format(run: Run) -> None:
    (job,) = submitted(run, "a.wav")

    text, srt = run("result", job), run("result", job, "-f", "srt")
    written = run("result", job, "-f", "docx", "-o", "out/a.docx")

    assert (text.exit_code, text.stdout) == (0, PARAFORMER.text + "\n")
    assert len(list(srt_parser.parse(srt.stdout))) == 2
    assert (written.exit_code, written.stdout) == (0, "")
    assert Path("out/a.docx").read_bytes().startswith(b"PK")


def test_a_result_is_not_written_over_a_file_unless_it_is_forced(run: Run) -> None:
    (job,) = submitted(run, "a.wav")
    Path("a.txt").write_text("mine")

    refused = run("result", job, "-o", "a.txt")
    kept = Path("a.txt").read_text()
    forced = run("result", job, "-o", "a.txt", "--force")

    assert (refused.exit_code, kept, forced.exit_code) == (1, "mine", 0)
    assert "--force" in refused.stderr
    assert Path("a.txt").read_text("utf-8") == PARAFORMER.text + "\n"


def test_the_result_of_a_failed_job_is_the_reason(run: Run) -> None:
    (job,) = submitted(run, "bad.wav")

    result = run("result", job)

    assert (result.exit_code, result.stderr) == (1, "The file failed: No sound.\n")


def test_cancel_prints_the_state_of_each_job(run: Run) -> None:
    (job,) = submitted(run, "a.wav")

    result = run("cancel", job, "job_none")

    assert (result.exit_code, result.stdout) == (1, f"{job} completed\n")
    assert "job_none" in result.stderr


def test_list_shows_jobs_page_by_page(run: Run) -> None:
    first, second = submitted(run, "a.wav", "bad.wav")

    page = run("list", "--limit", "1")
    cursor = page.stderr.split()[-1]
    following = run("list", "--limit", "1", "--after", cursor)
    completed = run("list", "--state", "completed", "--limit", "1")

    assert [result.exit_code for result in (page, following, completed)] == [0, 0, 0]
    assert second in page.stdout
    assert first in following.stdout
    assert "100%" in completed.stdout
    assert second not in completed.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("submit",),
        ("submit", "a.wav", "--metadata", "[1]"),
        ("submit", "a.wav", "--priority", "101"),
        ("submit", "a.wav", "s3://calls/a.mp3", "--together"),
        ("watch",),
        ("result", "job_1", "-f", "pdf"),
        ("list", "--state", "asleep"),
        ("list", "--limit", "101"),
    ],
)
def test_a_wrong_command_line_ends_with_status_2(run: Run, arguments: tuple[str, ...]) -> None:
    result = run(*arguments)

    assert result.exit_code == 2
    assert result.stderr


def test_a_service_without_jobs_says_which_setting_turns_them_on(tmp_path: Path) -> None:
    body = json.dumps({"error": {"code": "jobs_off", "detail": ["See jobs.enabled."]}})

    with answering((404, {}, body)) as server:
        result = CliRunner().invoke(app, ["list", "--url", server.url])

    assert (result.exit_code, result.stderr) == (1, "See jobs.enabled.\n")


@pytest.mark.parametrize("command", ["submit", "watch", "result", "cancel", "list"])
def test_every_command_has_help(command: str) -> None:
    result = CliRunner().invoke(app, [command, "--help"])

    assert result.exit_code == 0
    assert "Usage" in result.stdout
