"""`make serve` started twice on one port, and ended by signals."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from benchmarks.machine import free_port

pytestmark = pytest.mark.ray

FAKES = """
applications:
  - name: default
    route_prefix: /
    import_path: deployments.app:build
    args:
      models: {vad: "fake:vad", asr: "fake:asr", punctuation: "fake:punctuation"}
"""

# Ray's agents on a node. They hold no port of ours, and end about a minute after their raylet.
LATE = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")


@contextmanager
def serving(config: Path, port: int) -> Iterator[subprocess.Popen[str]]:
    """`python -m deployments.serve`, killed at the end if it still runs."""
    command = [sys.executable, "-m", "deployments.serve", str(config), "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for_line(process: subprocess.Popen[str], start: str) -> None:
    assert process.stdout is not None
    assert any(line.startswith(start) for line in process.stdout)


def wait_for_end(processes: list[psutil.Process], limit_s: float) -> list[psutil.Process]:
    """Waits for the processes to end. Returns those that still run after the limit."""
    deadline_s = time.monotonic() + limit_s
    alive = processes
    while alive and time.monotonic() < deadline_s:
        time.sleep(0.2)
        alive = [p for p in alive if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
    return alive


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 0), (signal.SIGKILL, -signal.SIGKILL)]
)
def test_no_process_is_left_after_any_signal(
    tmp_path: Path, number: signal.Signals, status: int
) -> None:
    config = tmp_path / "fakes.yaml"
    config.write_text(FAKES, encoding="utf-8")
    port = free_port()

    with serving(config, port) as process:
        wait_for_line(process, "Ready")
        assert httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=60).json()["ready"]
        second = subprocess.run(
            [sys.executable, "-m", "deployments.serve", str(config), "--port", str(port)],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        started = [
            child
            for child in psutil.Process(process.pid).children(recursive=True)
            if child.name() not in LATE
        ]
        process.send_signal(number)
        ended_with = process.wait(timeout=300)
    left = wait_for_end(started, limit_s=180)

    assert (second.returncode, ended_with) == (1, status)
    assert f"Port {port} of 127.0.0.1 cannot be used" in second.stderr
    assert len(started) > 5
    assert left == []
