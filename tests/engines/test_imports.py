"""Engines run where there is no Ray and no web server, and fakes where there is no torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
WITHOUT_RAY = ("ray", "starlette", "httpx")
FUNASR_ENGINES = ("paraformer", "fsmn-vad", "ct-transformer")
FAKES = ("fake-asr", "fake-vad", "fake-punctuation")


def import_engines(families: tuple[str, ...], blocked: tuple[str, ...]) -> str:
    """What a fresh interpreter prints while it imports the engines without the blocked modules."""
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({blocked!r}))\n"
        "from deployments.engines.protocols import engine_class\n"
        f"for family in {families!r}: assert engine_class(family)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("families", "blocked"),
    [(FUNASR_ENGINES, WITHOUT_RAY), (FAKES, (*WITHOUT_RAY, "torch", "funasr", "onnxruntime"))],
    ids=["funasr", "fakes"],
)
@pytest.mark.slow
def test_engines_are_imported_quietly_without(
    families: tuple[str, ...], blocked: tuple[str, ...]
) -> None:
    assert import_engines(families, blocked) == ""
