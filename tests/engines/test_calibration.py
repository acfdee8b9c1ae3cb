"""The calibration of a GPU's memory, on a fake card."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from deployments.core.errors import OutOfMemory
from deployments.core.types import EngineInfo
from deployments.engines.calibration import (
    BATCH_SIZES,
    MARGIN,
    Kind,
    Peak,
    Rehearsing,
    budget_ms,
    cuda_budget_ms,
    fit,
    read_need,
)
from deployments.engines.paraformer.engine import Paraformer
from deployments.engines.protocols import EngineSettings
from tests.engines.conftest import Case

GIB = 1024**3
WEIGHTS, PER_S = GIB, 2 * 1024**2  # of the fake card
KIND = Kind(gpu="A card", dtype="fp16", geometry="abc", torch="2.13.0")
INFO = EngineInfo("m", "cuda", "fp16", True, False, max_segment_ms=60_000)


@dataclass
class Card:
    """An engine whose memory is a straight line, with noise in proportion."""

    room_bytes: int = 40 * GIB
    noise: float = 0.0
    info: EngineInfo = INFO
    geometry: str = "abc"
    read: list[int] = field(default_factory=list)  # segments of each batch
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(3))
    _peak: int = 0

    def rehearse(self, n_items: int, n_ms: int) -> None:
        taken = WEIGHTS + PER_S * n_items * n_ms / 1000
        taken *= 1 + self.noise * self.rng.random()
        if taken > self.room_bytes:
            raise OutOfMemory("full")
        self.read.append(n_items)
        self._peak = max(self._peak, int(taken))

    def reset(self) -> None:
        self._peak = 0

    def peak_bytes(self) -> int:
        return self._peak


def budget_s(card: Card, directory: Path, *, share_gib: float, kind: Kind = KIND) -> float | None:
    found = budget_ms(
        card, card, kind=kind, directory=directory, share_bytes=round(share_gib * GIB)
    )
    return None if found is None else found / 1000


def peaks(*points: tuple[float, int]) -> Sequence[Peak]:
    return [Peak(padded_s, n_bytes) for padded_s, n_bytes in points]


def test_what_is_left_of_the_share_is_filled_with_audio(tmp_path: Path) -> None:
    found = budget_s(Card(), tmp_path, share_gib=10)

    assert found == pytest.approx((10 * GIB * (1 - MARGIN) - WEIGHTS) / PER_S, rel=1e-6)


@pytest.mark.parametrize("seed", range(10))
def test_a_budget_from_noisy_peaks_still_fits(tmp_path: Path, seed: int) -> None:
    card = Card(noise=0.04, rng=np.random.default_rng(seed))

    found = budget_s(card, tmp_path, share_gib=6)

    assert found is not None
    assert WEIGHTS + PER_S * found <= 6 * GIB
    assert found > 0.7 * (6 * GIB - WEIGHTS) / PER_S


def test_a_card_of_the_same_kind_is_not_measured_again(tmp_path: Path) -> None:
    budget_s(Card(), tmp_path, share_gib=10)
    second = Card()

    found = budget_s(second, tmp_path, share_gib=5)

    assert second.read == []
    assert found == pytest.approx((5 * GIB * (1 - MARGIN) - WEIGHTS) / PER_S, rel=1e-6)


@pytest.mark.parametrize("changed", ["gpu", "dtype", "geometry", "torch"])
def test_anything_else_is_measured_for_itself(tmp_path: Path, changed: str) -> None:
    budget_s(Card(), tmp_path, share_gib=10)
    second = Card()

    budget_s(second, tmp_path, share_gib=10, kind=replace(KIND, **{changed: "other"}))

    assert second.read == [BATCH_SIZES[0], *BATCH_SIZES]
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"fixed_bytes": 1, "bytes_per_s": 0}', '{"kind": {}}', "\x00"]
)
def test_a_broken_file_is_measured_over(tmp_path: Path, content: str) -> None:
    expected = budget_s(Card(), tmp_path, share_gib=10)
    [file] = tmp_path.iterdir()
    file.write_text(content)

    found = budget_s(Card(), tmp_path, share_gib=10)

    assert found == expected
    assert read_need(tmp_path, KIND) is not None


def test_a_file_of_another_kind_under_this_name_is_not_believed(tmp_path: Path) -> None:
    budget_s(Card(), tmp_path, share_gib=10)
    [file] = tmp_path.iterdir()
    file.write_text(file.read_text().replace("A card", "Another card"))

    assert read_need(tmp_path, KIND) is None


def test_where_nothing_can_be_kept_it_is_measured_each_time(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    nowhere = tmp_path / "file"
    nowhere.write_text("a file where the directory would be")

    found = [budget_s(Card(), nowhere, share_gib=10) for _ in range(2)]

    assert found[0] == found[1]
    assert found[0] is not None
    assert len(caplog.records) == 2


def test_a_share_that_holds_one_size_only_is_used_to_that_size(tmp_path: Path) -> None:
    room = WEIGHTS + PER_S * 60 * 2  # of the two smallest sizes only the first fits

    found = budget_s(Card(room_bytes=room), tmp_path, share_gib=room / GIB)

    assert found == 60
    assert os.listdir(tmp_path) == []


def test_a_share_that_holds_nothing_gets_one_segment_at_a_time(tmp_path: Path) -> None:
    assert budget_s(Card(room_bytes=1), tmp_path, share_gib=1) == 60


def test_the_line_is_above_every_peak() -> None:
    measured = peaks((60, 1_000), (240, 2_900), (480, 4_000))

    need = fit(measured)

    assert need is not None
    slacks = [need.fixed_bytes + need.bytes_per_s * p.padded_s - p.n_bytes for p in measured]
    assert min(slacks) >= -1e-6


@pytest.mark.parametrize(
    "useless", [(), ((60, 5),), ((60, 5), (60, 9)), ((60, 9), (240, 9)), ((60, 9), (240, 5))]
)
def test_peaks_without_a_slope_give_no_line(useless: tuple[tuple[float, int], ...]) -> None:
    assert fit(peaks(*useless)) is None


class Counted(Paraformer):
    """A Paraformer that counts the tokens it decodes."""

    n_tokens = 0

    def token_ids(self, *args: object) -> object:  # type: ignore[override]
        ids = super().token_ids(*args)  # type: ignore[arg-type]
        self.n_tokens += len(ids)
        return ids


@pytest.mark.slow
@pytest.mark.parametrize("by_item", [True, False])
def test_a_rehearsal_reads_as_many_tokens_as_a_hurried_speaker(case: Case, by_item: bool) -> None:
    engine = Counted(case.model_dir, EngineSettings(), by_item=by_item)
    assert isinstance(engine, Rehearsing)

    engine.rehearse(3, 10_000)

    assert engine.n_tokens == pytest.approx(3 * 10 * 7, rel=0.05)


def test_the_geometry_is_that_of_the_shapes(seaco_case: Case, bicif_case: Case) -> None:
    again = Paraformer(seaco_case.model_dir, EngineSettings(dtype="int8"))

    assert again.geometry == seaco_case.engine.geometry
    assert again.geometry != bicif_case.engine.geometry


def test_on_a_cpu_nothing_is_measured(case: Case, tmp_path: Path) -> None:
    assert cuda_budget_ms(case.engine, EngineSettings(), tmp_path) is None
    assert list(tmp_path.iterdir()) == []
