"""The VAD engine compared with FunASR's, as an energy detector and with published weights."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from itertools import chain, pairwise
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from benchmarks.engines.automodel import AutoModelAlone
from benchmarks.material import synthetic_audio
from benchmarks.material.recordings import EXTRA
from deployments.core.errors import ModelUnavailable
from deployments.core.types import SAMPLES_PER_MS, Audio, Span
from deployments.engines.features import (
    FRAME_SAMPLES,
    SHIFT_SAMPLES,
    Fbank,
    count_frames,
    stack_frames,
)
from deployments.engines.fsmn_vad import engine as fsmn_vad
from deployments.engines.fsmn_vad.engine import FsmnVad
from deployments.engines.fsmn_vad.features import STACK, VadFeatures
from deployments.engines.protocols import EngineSettings

LIMITS = {
    "max_end_silence_time": fsmn_vad.MAX_END_SILENCE_MS,
    "max_single_segment_time": fsmn_vad.MAX_SEGMENT_MS,
}
N_GENERATED = 50
RECORDINGS = [p for end in ("wav", "flac") for p in sorted((EXTRA / "audio").rglob(f"*.{end}"))]


def generated(index: int) -> Audio:
    """Dense or sparse talk. Every fifth fades in, many are cut in mid-word, two exceed a minute."""
    audio = synthetic_audio.conversation(
        75_000 if index % 25 == 24 else 200 + 300 * index,
        seed=index,
        mean_burst_ms=800 + 700 * (index % 9),
        mean_pause_ms=250 + 150 * (index % 7),
    )
    fade = np.linspace(0.02, 1, len(audio)) ** 2 if index % 5 == 0 else np.ones(len(audio))
    return (audio * fade).astype(np.int16)


def read_recording(path: Path) -> Audio:
    """The first channel of a 16 kHz file."""
    with av.open(str(path)) as container:
        resampler = av.AudioResampler(format="s16", layout="mono", rate=16_000)
        frames = [f for frame in container.decode(audio=0) for f in resampler.resample(frame)]
        return np.concatenate([frame.to_ndarray()[0] for frame in frames])


def funasr_spans(reference: AutoModelAlone, audios: Sequence[Audio]) -> list[list[Span]]:
    values = [reference.generate(audio).get("value", []) for audio in audios]
    return [[Span(start, end) for start, end in value] for value in values]


def assert_equal_to_funasr(model_dir: Path, audios: Sequence[Audio]) -> None:
    expected = funasr_spans(AutoModelAlone(model_dir, **LIMITS), audios)

    engine = FsmnVad(model_dir, EngineSettings())
    found = [engine.detect(audio) for audio in audios]
    together = scanned(engine, audios)

    assert found == expected
    assert together == expected
    assert sum(map(len, expected)) > len(audios) / 2


@pytest.mark.slow
def test_spans_of_an_energy_detector_are_those_of_funasr(tiny_vad_dir: Path) -> None:
    assert_equal_to_funasr(tiny_vad_dir, [generated(i) for i in range(0, N_GENERATED, 4)])


@pytest.mark.slow
def test_spans_of_the_published_model_are_those_of_funasr(real_vad_dir: Path) -> None:
    assert_equal_to_funasr(real_vad_dir, [generated(i) for i in range(N_GENERATED)])


@pytest.mark.skipif(not RECORDINGS, reason=f"no recordings in {EXTRA}")
@pytest.mark.slow
def test_spans_in_real_speech_are_those_of_funasr(real_vad_dir: Path) -> None:
    assert_equal_to_funasr(real_vad_dir, [read_recording(path) for path in RECORDINGS])


@pytest.fixture
def engine(tiny_vad_dir: Path) -> FsmnVad:
    return FsmnVad(tiny_vad_dir, EngineSettings())


@pytest.mark.parametrize("n_frames", [1, 2, 3, 5, 17])
@pytest.mark.parametrize("step", [1, 2, 4, 30])
def test_each_frame_is_seen_with_its_neighbours_whatever_the_pieces(
    n_frames: int, step: int
) -> None:
    audio = synthetic_audio.voice(1000, seed=n_frames)[: 240 + 160 * n_frames]
    features = VadFeatures(torch.device("cpu"))
    whole = stack_frames(features.log_mel(audio), width=STACK, stride=1)

    pieces = [
        features.stacked(audio, first, min(n_frames, first + step), n_frames)
        for first in range(0, n_frames, step)
    ]

    torch.testing.assert_close(torch.cat(pieces), whole, atol=1e-5, rtol=1e-6)


@pytest.mark.parametrize("n_ms", [25, 100, 5000])
def test_features_are_those_of_kaldi(n_ms: int) -> None:
    audio = synthetic_audio.voice(n_ms, seed=n_ms)
    whole = audio[: (count_frames(len(audio)) - 1) * SHIFT_SAMPLES + FRAME_SAMPLES]

    found = VadFeatures(torch.device("cpu")).log_mel(whole)

    assert (found - Fbank()(audio)).abs().max() < 1e-3


def test_spans_do_not_depend_on_what_is_read_beside(engine: FsmnVad) -> None:
    audios = [np.zeros(0, np.int16), *(generated(i) for i in (3, 30, 24, 49)), generated(1)[:400]]
    alone = [engine.detect(audio) for audio in audios]

    together = scanned(engine, audios)

    assert together == alone
    assert sum(map(len, alone)) > 5


def scanned(engine: FsmnVad, audios: Sequence[Audio]) -> list[list[Span]]:
    """The spans of recordings that are all read together to the end."""
    scans = [engine.scan(audio) for audio in audios]
    spans: list[list[Span]] = [[] for _ in audios]
    while not all(scan.finished for scan in scans):
        for mine, came in zip(spans, engine.advance(scans), strict=True):
            mine += came
    return spans


def test_spans_come_while_the_recording_is_read(engine: FsmnVad) -> None:
    audio = synthetic_audio.conversation(120_000, seed=1)
    scan = engine.scan(audio)

    came = []
    while not scan.finished:
        read_ms = min(len(audio) // SAMPLES_PER_MS, (scan.at + 2000) * 10 + 25)
        came += [(span, read_ms) for span in engine.advance([scan])[0]]

    # No span is held back for longer than a pause of 800 ms, a window of 200 ms and a step of 20 s.
    assert all(read_ms - span.end_ms <= 21_000 for span, read_ms in came)
    assert len(came) > 10


@pytest.mark.parametrize("n_ms", [1000, 95_000])
def test_spans_are_in_order_inside_the_audio_and_at_most_30_s(engine: FsmnVad, n_ms: int) -> None:
    spans = engine.detect(synthetic_audio.voice(n_ms, seed=3))

    edges = [0, *(t for span in spans for t in (span.start_ms, span.end_ms)), n_ms]
    assert all(a <= b for a, b in pairwise(edges))
    assert all(span.n_ms <= fsmn_vad.MAX_SEGMENT_MS + 10 for span in spans)
    assert spans


@pytest.mark.parametrize("n_samples", [0, 1, 399, 400, 16_000, 70 * 1000 * SAMPLES_PER_MS])
def test_digital_silence_has_no_speech(engine: FsmnVad, n_samples: int) -> None:
    assert engine.detect(np.zeros(n_samples, np.int16)) == []


def test_a_network_that_is_certain_does_not_fail(tiny_vad_dir: Path, tmp_path: Path) -> None:
    model_dir = Path(shutil.copytree(tiny_vad_dir, tmp_path / "vad"))
    weights = torch.load(model_dir / "model.pt", weights_only=True)
    weights["encoder.out_linear2.linear.weight"] *= 1000
    weights["encoder.out_linear2.linear.bias"] *= 1000
    torch.save(weights, model_dir / "model.pt")
    audio = generated(10)
    with pytest.raises(ValueError, match="math domain error"):
        AutoModelAlone(model_dir, **LIMITS).generate(audio)

    spans = FsmnVad(model_dir, EngineSettings()).detect(audio)

    assert spans


def test_half_precision_is_refused(tiny_vad_dir: Path) -> None:
    with pytest.raises(ModelUnavailable, match="fp32"):
        FsmnVad(tiny_vad_dir, EngineSettings(dtype="fp16"))


@pytest.mark.slow
def test_the_way_of_a_gpu_finds_the_same_spans(
    tiny_vad_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    audios = [generated(i) for i in range(N_GENERATED)]
    expected = [FsmnVad(tiny_vad_dir, EngineSettings()).detect(audio) for audio in audios]
    monkeypatch.setitem(fsmn_vad.STEP_FRAMES, "cpu", 1500)
    engine = FsmnVad(tiny_vad_dir, EngineSettings(), at_once=True)

    found = [scanned(engine, audios[i : i + 7]) for i in range(0, len(audios), 7)]

    assert list(chain(*found)) == expected


def test_the_way_of_a_gpu_has_the_same_input_row_by_row(tiny_vad_dir: Path) -> None:
    engine = FsmnVad(tiny_vad_dir, EngineSettings())
    scans = [engine.scan(generated(i)) for i in (3, 20, 40)]
    ends = [scan.n_frames for scan in scans]
    first = [fsmn_vad.Stretch(scan, 0, end // 3) for scan, end in zip(scans, ends, strict=True)]
    later = [fsmn_vad.Stretch(s, n // 3, n) for s, n in zip(scans, ends, strict=True)]

    for stretches in (first, later, [first[0], later[1], first[2]]):
        together, void = engine._together(stretches)
        in_turn, expected_void = engine._in_turn(stretches)

        torch.testing.assert_close(together, in_turn, rtol=1e-4, atol=1e-3)
        assert void == expected_void
