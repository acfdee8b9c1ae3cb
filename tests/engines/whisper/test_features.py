"""The features compared with Whisper's own, and the rules of both engines; no weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from deployments.core.errors import BadRequest, ModelUnavailable
from deployments.engines.families import ENGINES, engine_class
from deployments.engines.protocols import EngineSettings
from deployments.engines.whisper.contract import full_prompt, known_language, whisper_info
from deployments.engines.whisper.encoder import context_ms, positions
from deployments.engines.whisper.features import log_mel, mel_filters

WHISPERS = [family for family in ENGINES if family.startswith("whisper")]


def voice(n_samples: int) -> np.ndarray:
    rng = np.random.default_rng(3)
    tone = np.sin(np.arange(n_samples) * 0.1) * np.hanning(n_samples)
    return (tone * 9000 + rng.standard_normal(n_samples) * 300).astype(np.int16)


def reference(audio: np.ndarray, n_frames: int) -> np.ndarray:
    """openai/whisper, audio.py: log_mel_spectrogram(pad_or_trim(audio)), for 80 mels."""
    padded = np.zeros(n_frames * 160, np.float32)
    padded[: len(audio)] = audio / 32768
    window = torch.hann_window(400)
    stft = torch.stft(torch.from_numpy(padded), 400, 160, window=window, return_complex=True)
    power = stft[..., :-1].abs() ** 2
    log = torch.clamp(torch.from_numpy(mel_filters(80)) @ power, min=1e-10).log10()
    return ((torch.maximum(log, log.max() - 8.0) + 4.0) / 4.0).numpy()


@pytest.mark.parametrize(
    ("mel", "bin_", "weight"),
    [(0, 1, 0.024862593), (0, 2, 0.0), (20, 20, 0.013890386), (79, 195, 0.0022437912)],
)
def test_the_filters_are_those_released_with_whisper(mel: int, bin_: int, weight: float) -> None:
    filters = mel_filters(80)

    assert filters[mel, bin_] == pytest.approx(weight, abs=1e-7)
    assert filters.sum() == pytest.approx(1.9990242, abs=1e-5)


@pytest.mark.parametrize(
    ("n_samples", "n_frames"), [(1601, 1000), (50_123, 1000), (160_000, 1000), (50_123, 3000)]
)
def test_features_are_whispers_own(n_samples: int, n_frames: int) -> None:
    audio = voice(n_samples)

    features = log_mel(audio, 80, n_frames)

    assert features.shape == (80, n_frames)
    assert np.abs(features - reference(audio, n_frames)).max() < 0.01


@pytest.mark.parametrize(
    ("n_ms", "seen_ms"),
    [(100, 10_000), (8000, 10_000), (8001, 11_000), (25_000, 27_000), (30_000, 30_000)],
)
def test_the_context_grows_with_the_audio(n_ms: int, seen_ms: int) -> None:
    assert context_ms(n_ms) == seen_ms


def test_a_graph_without_positions_is_refused() -> None:
    with pytest.raises(ValueError, match="no table"):
        positions(b"\x00" * 40_000, 1500, 768)


@pytest.mark.parametrize("family", WHISPERS)
@pytest.mark.parametrize(
    "settings",
    [
        EngineSettings(name="w", device="cuda"),
        EngineSettings(name="w", dtype="fp16", device="cuda"),
    ],
)
def test_a_gpu_is_refused_before_any_file_is_read(
    family: str, settings: EngineSettings, tmp_path: Path
) -> None:
    with pytest.raises(ModelUnavailable, match="runs on the CPU"):
        engine_class(family)(tmp_path, settings)


@pytest.mark.parametrize("family", WHISPERS)
def test_missing_files_are_named_with_the_remedy(family: str, tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match=str(tmp_path)):
        engine_class(family)(tmp_path, EngineSettings(name="w"))


def test_a_precision_the_weights_do_not_have_is_refused() -> None:
    with pytest.raises(ModelUnavailable, match="int8"):
        whisper_info(EngineSettings(name="w", dtype="bf16"), dtype="int8")


@pytest.mark.parametrize(("asked", "language"), [(None, "zh"), ("ZH", "zh"), ("en", "en")])
def test_mandarin_is_the_default_language(asked: str | None, language: str) -> None:
    assert known_language(asked, {"zh", "en"}) == language


def test_an_unknown_language_is_a_bad_request() -> None:
    with pytest.raises(BadRequest, match="klingon") as caught:
        known_language("klingon", {"zh"})

    assert caught.value.param == "language"


@pytest.mark.parametrize(
    ("language", "prompt", "start", "end"),
    [
        ("zh", None, "以下是", "。"),
        ("zh", "林斐然", "以下是", "林斐然"),
        ("en", "Ray", "Ray", "Ray"),
    ],
)
def test_the_users_prompt_follows_the_style(
    language: str, prompt: str | None, start: str, end: str
) -> None:
    prompted = full_prompt(language, prompt)

    assert prompted.startswith(start)
    assert prompted.endswith(end)
