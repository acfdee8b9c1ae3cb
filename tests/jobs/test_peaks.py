"""The waveform of a recording: the loudest sample of each twentieth of a second."""

from __future__ import annotations

import base64

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.core.types import Audio
from deployments.jobs.journal import SAMPLES_PER_PEAK, peaks_of


def peaks(audio: Audio) -> list[int]:
    return list(base64.b64decode(peaks_of(audio)["peaks"]))


@given(st.lists(st.integers(-32_768, 32_767), max_size=5), st.integers(0, SAMPLES_PER_PEAK - 1))
def test_each_peak_is_the_loudest_sample(loudest: list[int], n_more: int) -> None:
    audio = np.zeros(len(loudest) * SAMPLES_PER_PEAK + n_more, np.int16)
    audio[7 : len(loudest) * SAMPLES_PER_PEAK : SAMPLES_PER_PEAK] = loudest

    assert peaks(audio)[: len(loudest)] == [abs(sample) * 255 // 32_768 for sample in loudest]


@pytest.mark.parametrize("n_peaks", [0, 1, 9_999, 10_000, 10_001, 20_003])
def test_there_are_twenty_a_second_however_long_the_recording(n_peaks: int) -> None:
    audio = np.full(n_peaks * SAMPLES_PER_PEAK, 16_384, np.int16)

    found = peaks_of(audio)

    assert found["per_second"] == 20
    assert found["duration"] == n_peaks / 20
    assert peaks(audio) == [127] * n_peaks


def test_the_last_part_of_a_recording_is_drawn_too() -> None:
    audio = np.zeros(SAMPLES_PER_PEAK + 80, np.int16)
    audio[-1] = -32_768

    assert peaks(audio) == [0, 255]
