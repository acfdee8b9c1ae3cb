"""The header of every test run: which versions of what matters were tested."""

from __future__ import annotations

import os
from importlib.metadata import version

from hypothesis import settings

# A submission must not fail by the draw; at a desk every run draws anew.
settings.register_profile("ci", derandomize=True, deadline=None)
settings.register_profile("desk", deadline=None)  # a loaded machine is no failure
settings.load_profile("ci" if os.environ.get("CI") else "desk")

REPORTED = ("ray", "torch", "funasr", "onnxruntime", "numpy", "av", "starlette")


def pytest_report_header() -> str:
    return "with " + ", ".join(f"{name} {version(name)}" for name in REPORTED)
