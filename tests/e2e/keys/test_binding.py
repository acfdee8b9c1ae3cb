"""Where the service listens without keys, and the simplest way to have one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.machine import free_port
from deployments.keys.secrets import new_id, new_key
from tests.e2e.test_serve_command import FAKES, wait_for_line

pytestmark = pytest.mark.ray


def serving(folder: Path, *options: str, more: str = "", **environ: str) -> Any:
    config = folder / "fakes.yaml"
    config.write_text(FAKES + more, encoding="utf-8")
    return subprocess.Popen(
        [sys.executable, "-m", "deployments.serve", str(config), *options],
        env=os.environ | environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_without_a_key_another_host_is_refused_at_once(tmp_path: Path) -> None:
    with serving(tmp_path, "--host", "0.0.0.0", "--port", str(free_port())) as process:
        _, told = process.communicate(timeout=120)

    assert process.returncode == 1
    assert "keys.serve_without_keys_beyond_loopback: true" in told


def test_a_key_of_the_environment_opens_the_service_to_other_machines(tmp_path: Path) -> None:
    key, port = new_key(new_id()), free_port()
    url = f"http://127.0.0.1:{port}/v1/models"

    with serving(
        tmp_path, "--host", "0.0.0.0", "--port", str(port), PARAFORMER_API_KEYS=key
    ) as process:
        wait_for_line(process, "Ready")
        statuses = [
            httpx.get(url, headers={"Authorization": f"Bearer {one}"}, timeout=60).status_code
            for one in (key, new_key(new_id()))
        ]
        process.terminate()
        process.communicate(timeout=300)

    assert statuses == [200, 401]


def test_on_loopback_the_command_says_that_there_are_no_keys(tmp_path: Path) -> None:
    with serving(tmp_path, "--port", str(free_port())) as process:
        wait_for_line(process, "No API key is configured, so the service listens on loopback")
        process.terminate()
        process.communicate(timeout=300)

    assert process.returncode == 0
