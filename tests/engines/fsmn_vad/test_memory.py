"""A VAD step on a GPU needs no more memory than is kept free for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.material.random_models import Size, write_vad
from cluster.planning.cards import VAD_STEP_MIB
from deployments.engines.device import MIB
from deployments.engines.fsmn_vad.engine import STEP_FRAMES, FsmnVad
from deployments.engines.protocols import EngineSettings
from deployments.stages.vad import MAX_TOGETHER
from tests.engines.fake_card import fake_card

SPECTRUM_MIB = STEP_FRAMES["cuda"] * 257 * 8 / MIB  # cuFFT may need as much workspace as it writes
BLOCKS = 1.25  # at least, for the allocator's blocks


@pytest.mark.slow
@pytest.mark.parametrize("n_recordings", [1, MAX_TOGETHER])
def test_a_full_step_fits_into_what_is_kept_for_it(tmp_path: Path, n_recordings: int) -> None:
    audio = np.random.default_rng(0).integers(-999, 999, 250 * 16_000, np.int16)  # more than a step

    with fake_card() as card:
        engine = FsmnVad(write_vad(tmp_path, size=Size.LARGE), EngineSettings(device="cuda"))
        weights = card.peak_bytes = card.bytes_held
        engine.advance([engine.scan(audio) for _ in range(n_recordings)])

    step_mib = (card.peak_bytes - weights) / MIB
    assert step_mib > 100
    assert (step_mib + SPECTRUM_MIB) * BLOCKS <= VAD_STEP_MIB
