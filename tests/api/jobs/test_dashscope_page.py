"""The program and the command of the page about DashScope run as they stand there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from tests.api.jobs.played import Played, transcript_of
from tests.test_docs import DOCS, in_language

PAGE = DOCS / "en" / "dashscope.md"


def environment(played: Played) -> dict[str, str]:
    variables = {"DASHSCOPE_HTTP_BASE_URL": f"{played.url}/api/v1", "DASHSCOPE_API_KEY": "none"}
    return {**os.environ, **variables, "no_proxy": "*", "NO_PROXY": "*"}


@pytest.mark.slow
def test_the_page_s_program_runs(played: Played) -> None:
    (program,) = in_language(PAGE, "python")

    ran = subprocess.run(
        [sys.executable, "-c", program],
        env=environment(played),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    assert ran.stdout.splitlines() == [
        f"https://example.com/a.mp3 {transcript_of(0).text}",
        "https://example.com/b.mp3 InvalidFile.Format The file has no sound track.",
    ]


@pytest.mark.skipif(not shutil.which("curl"), reason="there is no curl")
def test_the_page_s_command_submits_a_task(played: Played) -> None:
    command = in_language(PAGE, "bash")[1]

    ran = subprocess.run(
        ["sh", "-c", command], env=environment(played), capture_output=True, timeout=60, check=True
    )

    assert b'"task_status":"PENDING"' in ran.stdout
