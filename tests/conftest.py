"""The header of every test run, and the fixture for proxies in the environment."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.metadata import version

import pytest
from hypothesis import settings

# A submission must not fail by the draw; at a desk every run draws anew.
settings.register_profile("ci", derandomize=True, deadline=None)
settings.register_profile("desk", deadline=None)  # a loaded machine is no failure
settings.load_profile("ci" if os.environ.get("CI") else "desk")

REPORTED = ("ray", "torch", "funasr", "onnxruntime", "numpy", "av", "starlette")


def pytest_report_header() -> str:
    return "with " + ", ".join(f"{name} {version(name)}" for name in REPORTED)


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets these variables for proxies, where no other is set."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)

    def set_variables(**values: str) -> None:
        for name, value in values.items():
            monkeypatch.setenv(name, value)

    return set_variables
