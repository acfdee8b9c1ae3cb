"""A plan read from a live Ray cluster deploys there, with every replica that it allows."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from pathlib import Path

import pytest

from deployments.serve import load_config
from tests.cluster.planning.fake_fleet import MACHINES

ROOT = Path(__file__).parents[3]

pytestmark = pytest.mark.ray


def test_a_mixed_fleet_runs_all_replicas_of_its_plan_at_once(tmp_path: Path) -> None:
    path = tmp_path / "serve_config.yaml"
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}

    done = subprocess.run(
        [sys.executable, "-m", "tests.cluster.planning.fake_fleet", str(path)],
        cwd=ROOT,
        env=os.environ | token | {"RAY_USAGE_STATS_ENABLED": "0"},
        capture_output=True,
        text=True,
        timeout=280,
    )

    assert done.returncode == 0, done.stderr[-4000:]
    result = json.loads(done.stdout.splitlines()[-1])
    pools = load_config(path).pools
    assert {name: pools[name].max_replicas for name, _, _ in MACHINES} == {"T4": 4, "L4": 2}
    assert result["dtype"] == "fp16"
    assert (result["replicas"]["Asr-T4"], result["replicas"]["Asr-L4"]) == (4, 2)
    assert result["text"].endswith("。")
    assert result["samplers"] == [True] * len(MACHINES)
