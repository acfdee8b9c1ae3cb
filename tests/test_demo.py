"""What `make demo` decides before it starts anything."""

from __future__ import annotations

import io
import wave

import numpy as np
import pytest

from deployments import demo
from deployments.config import AppConfig, Models
from deployments.core.errors import ModelUnavailable
from deployments.resolve import FALLBACK


def test_the_fallback_and_its_reason_are_in_the_configuration() -> None:
    config = demo._serving(AppConfig(models=Models(asr="auto")), FALLBACK, "No hub answers.")

    assert config.models.asr == FALLBACK
    assert config.notes == ("No hub answers.",)


def test_without_the_package_the_first_minute_of_the_sample_is_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def nowhere(ref: str) -> None:
        raise ModelUnavailable(ref, "no source answers")

    monkeypatch.setattr(demo, "_fetch", nowhere)

    recording, what = demo._recording()

    assert isinstance(recording, bytes)
    with wave.open(io.BytesIO(recording)) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), np.int16)
        assert file.getframerate() == 16_000
    assert len(samples) == 60 * 16_000
    assert samples.any()
    assert "synthetic" in what
