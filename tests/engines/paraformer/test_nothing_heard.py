"""Items without a word, alone and among others, with a CPU's and a GPU's way of mixing rows."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from torch import Tensor

from benchmarks.material import synthetic_audio
from deployments.core.types import Audio, Hints
from deployments.engines.packed import Rows
from deployments.engines.paraformer.engine import Encoded, Paraformer
from deployments.engines.paraformer.readings import Reading
from deployments.engines.protocols import EngineSettings
from tests.engines.conftest import Case
from tests.engines.fake_card import fake_card
from tests.engines.paraformer.test_hotwords import FEW

NO_HINTS, HOTWORDS = Hints(), Hints(hotwords=FEW)
NOTHING = {
    "empty": np.zeros(0, np.int16),
    "one sample short of a frame": np.full(399, 1000, np.int16),
    "one frame": np.full(400, 1000, np.int16),
    "no token": synthetic_audio.voice(100, seed=5),
    "digital silence": np.zeros(16_000, np.int16),
}


@cache
def padding(model_dir: Path) -> Paraformer:
    """An engine that mixes rows on the CPU as a GPU does."""
    return Paraformer(model_dir, EngineSettings(), by_item=False)


@pytest.fixture(params=["by item", "padded"])
def engine(case: Case, request: pytest.FixtureRequest) -> Paraformer:
    return case.engine if request.param == "by item" else padding(case.model_dir)


@pytest.mark.parametrize("audio", NOTHING.values(), ids=NOTHING.keys())
@pytest.mark.parametrize("hints", [NO_HINTS, HOTWORDS], ids=["plain", "hotwords"])
def test_alone_and_three_times_it_is_read_as_nothing(
    engine: Paraformer, audio: Audio, hints: Hints
) -> None:
    assert engine.read([audio], hints) == [Reading()]
    assert engine.read([audio] * 3, hints) == [Reading()] * 3


@pytest.mark.parametrize("hints", [NO_HINTS, HOTWORDS], ids=["plain", "hotwords"])
def test_a_batch_of_nothing_but_such_items_is_read_as_nothing(
    engine: Paraformer, hints: Hints
) -> None:
    assert engine.read([*NOTHING.values()], hints) == [Reading()] * len(NOTHING)


@pytest.mark.parametrize("audio", NOTHING.values(), ids=NOTHING.keys())
@pytest.mark.parametrize("hints", [NO_HINTS, HOTWORDS], ids=["plain", "hotwords"])
def test_first_between_and_last_it_leaves_the_others_as_they_are(
    case: Case, engine: Paraformer, audio: Audio, hints: Hints
) -> None:
    one, other = case.audios[:2]
    expected = [case.engine.read([spoken], hints)[0] for spoken in (one, other)]

    found = engine.read([audio, one, audio, other, audio], hints)

    assert found == [Reading(), expected[0], Reading(), expected[1], Reading()]
    assert all(reading.texts for reading in expected)


@pytest.mark.parametrize("hints", [NO_HINTS, HOTWORDS], ids=["plain", "hotwords"])
def test_on_a_card_they_are_read_as_nothing_among_others_and_by_themselves(
    case: Case, hints: Hints
) -> None:
    nothing, spoken = [*NOTHING.values()], case.audios[:2]
    expected = [case.engine.read([audio], hints)[0] for audio in spoken]

    with fake_card():
        engine = Paraformer(case.model_dir, EngineSettings(device="cuda"))
        found = engine.read([*nothing, *spoken, *nothing], hints)
        alone = [engine.read([audio], hints)[0] for audio in nothing]
        together = engine.read(nothing, hints)

    assert found == [Reading()] * 5 + expected + [Reading()] * 5
    assert alone == together == [Reading()] * 5


def test_the_model_is_given_one_frame_and_what_has_no_token(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths: list[list[int]] = []
    encode = case.engine.encode

    def noting(features: Tensor, frames: Rows, *, timed: bool) -> Encoded:
        lengths.append(frames.lengths)
        return encode(features, frames, timed=timed)

    monkeypatch.setattr(case.engine, "encode", noting)

    case.engine.read([*NOTHING.values()], NO_HINTS)

    assert lengths == [[1, 2]]  # at 60 ms a row; the others have nothing to hear
