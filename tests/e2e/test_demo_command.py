"""`make demo` as a stranger runs it, on a machine that reaches no model hub."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from deployments.core.errors import ModelUnavailable
from deployments.weights.store import ensure, is_cached

pytestmark = pytest.mark.ray

ROOT = Path(__file__).parent.parent.parent
NOBODY = "http://127.0.0.1:9"  # the discard port: refused at once


def test_the_demo_prints_a_transcript_with_who_did_each_segment() -> None:
    if is_cached("paraformer-zh"):
        pytest.skip("Paraformer is cached: the demo serves it")
    try:
        ensure("whisper-small")
    except ModelUnavailable as error:
        pytest.skip(f"no weights for the fallback: {error}")

    done = subprocess.run(
        [sys.executable, "-m", "deployments.demo"],
        cwd=ROOT,
        env=os.environ | {"MODELSCOPE_DOMAIN": NOBODY, "HF_ENDPOINT": NOBODY, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "serving whisper-small instead" in done.stdout
    rows = [line.split() for line in done.stdout.splitlines() if " cpu " in line]
    assert len(rows) >= 8
    text = "".join("".join(row[4:]) for row in rows)
    assert "活动" in text  # said several times in the recording
    assert sum("\u4e00" <= character <= "\u9fff" for character in text) > 150
    assert "Traceback" not in done.stdout + done.stderr
