"""Without weights the service stops before it is ready, and says how to get them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from ray import serve

from deployments.app import build
from deployments.config import AppConfig, Models, Pool
from tests.e2e.conftest import Service

pytestmark = pytest.mark.ray

ROOT = Path(__file__).parent.parent.parent
NOBODY = "http://127.0.0.1:9"  # the discard port, where connections are refused at once


def test_make_serve_without_weights_stops_and_says_what_to_do(tmp_path: Path) -> None:
    environment = {
        "PARAFORMER_CACHE_DIR": str(tmp_path),
        "MODELSCOPE_ENDPOINT": NOBODY,
        "HF_ENDPOINT": NOBODY,
        "MODELSCOPE_CACHE": str(tmp_path),  # nothing that the hubs' own tools have downloaded
        "HF_HUB_CACHE": str(tmp_path),
    }

    done = subprocess.run(
        [sys.executable, "-m", "deployments.serve", "serve_config.yaml"],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert done.returncode == 1
    assert "The model 'paraformer-zh' is not available" in done.stderr
    assert "python -m deployments.weights fetch paraformer-zh" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Ready" not in done.stdout


def test_a_replica_without_weights_fails_the_deployment_with_the_remedy(
    service: Service, tmp_path: Path
) -> None:
    config = AppConfig(
        models=Models(vad="fake:vad", cache_dir=tmp_path, offline=True, punctuation=None),
        pools={"cpu": Pool(num_cpus=0.1)},
    )

    with pytest.raises(RuntimeError, match="Asr-cpu"):
        serve.run(build(config), name="unserved", route_prefix="/unserved")
    deployments = serve.status().applications["unserved"].deployments
    serve.delete("unserved")

    assert "fetch paraformer-zh" in deployments["Asr-cpu"].message
