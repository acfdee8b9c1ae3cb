"""The rivals of the engine: which can run, what they read, and how the figures are made."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from benchmarks.engines.agreement import characters_agree
from benchmarks.engines.paraformer import gain, make_segments, run
from benchmarks.engines.rival_export import export_for_rivals
from benchmarks.engines.rivals import RIVALS, installed, reader
from benchmarks.engines.start import started
from benchmarks.material.random_models import Asr, Size, write_paraformer
from deployments.core.types import Hints
from deployments.engines.paraformer.engine import Paraformer
from deployments.engines.paraformer.readings import Reading
from deployments.engines.protocols import EngineSettings

MISSING = [p for p, _ in RIVALS.values() if importlib.util.find_spec(p) is None]
needs_rivals = pytest.mark.skipif(bool(MISSING), reason=f"the extra bench is missing: {MISSING}")
KEYS = {
    "int8_over_sherpa",
    "int8_over_sherpa_s8",
    "int8_over_funasr_onnx",
    "text_only_gain",
    "peak_mib",
    "steady_mib",
    "start_s",
    "sherpa_start_s",
}


def test_a_rival_without_its_package_is_left_out_with_the_reason(
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = installed({"here": ("json", "a.onnx"), "not_here": ("no_such_package", "a.onnx")})

    assert found == ("here",)
    assert "Without not_here: the package no_such_package" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("texts", "share"),
    [
        (["今天好", "吗"], 1),
        (["今 天 好", "ok 吗"], 1),  # spaces and foreign words do not count
        (["今天", "吗"], 6 / 7),
        (["", ""], 0),
    ],
)
def test_rivals_agree_in_chinese_characters(texts: list[str], share: float) -> None:
    expected = [Reading(("今", "天", "hello", "好")), Reading(("吗",))]

    assert characters_agree(texts, expected) == pytest.approx(share)


def test_a_gain_is_the_median_over_neighbouring_rounds() -> None:
    assert gain([2.0, 9.0, 3.0], [1.0, 9.0, 1.0]) == 2.0


@pytest.mark.slow
@needs_rivals
@pytest.mark.parametrize("kind", list(Asr))
def test_rivals_read_what_the_engine_reads(kind: Asr, tmp_path: Path) -> None:
    model_dir = write_paraformer(tmp_path / "asr", kind=kind)
    exported = export_for_rivals(model_dir, tmp_path / "rivals")
    engine, audios = Paraformer(model_dir, EngineSettings()), make_segments(6)
    expected = [Reading((r.text,)) for r in engine.transcribe(audios, Hints())]

    texts = {name: [reader(name, exported)(audio) for audio in audios] for name in RIVALS}

    shares = {name: characters_agree(found, expected) for name, found in texts.items()}
    assert min(shares.values()) > 0.85, shares  # int8, and FunASR counts the tail otherwise


@pytest.mark.slow
@needs_rivals
def test_a_small_run_has_every_figure() -> None:
    figures = run(segments=3, repeats=1, size=Size.TINY, agreement_segments=0)

    assert figures.keys() >= KEYS
    assert (figures["identical"], figures["text_only_identical"]) == (1, 1)


@pytest.mark.slow
def test_start_and_memory_are_those_of_a_process_of_its_own(tmp_path: Path) -> None:
    figures = started(write_paraformer(tmp_path))

    assert figures["start_s"] > 0
    assert figures["peak_mib"] >= figures["steady_mib"] > 0
