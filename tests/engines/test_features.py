"""The features compared with those of FunASR's front end."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from funasr.frontends.wav_frontend import WavFrontend, load_cmvn

from benchmarks.material import synthetic_audio
from benchmarks.material.model_files import cmvn_text
from benchmarks.material.random_models import ASR_DIM
from deployments.engines.features import (
    Fbank,
    count_frames,
    normalise,
    read_cmvn,
    stack_all,
    stack_frames,
)
from deployments.engines.packed import Rows

MAX_DIFFERENCE = 1e-3  # of log-mel values of about 10; float32 sums are added in another order


@pytest.fixture
def cmvn_file(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    path = tmp_path / "am.mvn"
    path.write_text(cmvn_text(list(rng.normal(size=ASR_DIM)), list(rng.uniform(size=ASR_DIM))))
    return path


@pytest.mark.parametrize("n_ms", [25, 34, 35, 100, 1234, 5000])
def test_features_are_those_of_funasr(n_ms: int, cmvn_file: Path) -> None:
    audio = synthetic_audio.voice(n_ms, seed=n_ms)
    frontend = WavFrontend(cmvn_file=str(cmvn_file), lfr_m=7, lfr_n=6, dither=0.0)
    samples = torch.from_numpy(audio.astype(np.float32) / 32768)
    expected = frontend(samples[None], torch.tensor([len(audio)]))[0][0]

    found = normalise(stack_frames(Fbank()(audio), width=7, stride=6), read_cmvn(cmvn_file))

    assert found.shape == expected.shape
    assert (found - expected).abs().max() < MAX_DIFFERENCE


def test_features_do_not_depend_on_the_chunks() -> None:
    audio = synthetic_audio.voice(2000, seed=1)

    chunked = torch.cat(list(Fbank().chunks(audio, chunk_frames=17)))

    torch.testing.assert_close(chunked, Fbank()(audio), atol=1e-5, rtol=1e-6)


def test_read_only_samples_are_read(recwarn: pytest.WarningsRecorder) -> None:
    audio = synthetic_audio.voice(100, seed=1)
    audio.setflags(write=False)

    assert len(Fbank()(audio)) == 8
    assert not recwarn.list


@pytest.mark.parametrize(("n_samples", "n_frames"), [(0, 0), (399, 0), (400, 1), (560, 2)])
def test_only_whole_frames_count(n_samples: int, n_frames: int) -> None:
    assert count_frames(n_samples) == n_frames
    assert len(Fbank()(np.zeros(n_samples, np.int16))) == n_frames


def test_cmvn_is_read_as_funasr_reads_it(cmvn_file: Path) -> None:
    assert torch.equal(read_cmvn(cmvn_file), load_cmvn(cmvn_file))


@pytest.mark.parametrize("text", ["", "<AddShift> 1 1 [ 1 2 ] <Rescale>", "<AddShift> 2 2 [ 1"])
def test_a_broken_cmvn_file_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "am.mvn"
    path.write_text(text)

    with pytest.raises(ValueError, match=r"am\.mvn"):
        read_cmvn(path)


@pytest.mark.parametrize("lengths", [(400,), (16_000, 400, 3999, 24_123)])
def test_items_end_to_end_have_the_features_of_each_alone(lengths: tuple[int, ...]) -> None:
    audios = [synthetic_audio.voice(2000, seed=i)[:n] for i, n in enumerate(lengths)]
    fbank = Fbank()
    rows = Rows([count_frames(n) for n in lengths], torch.device("cpu"), by_item=True)

    frames = fbank.of_all(audios)
    stacked, layout = stack_all(frames, rows, width=7, stride=6)

    alone = [stack_frames(fbank(audio), width=7, stride=6) for audio in audios]
    assert layout.lengths == [len(item) for item in alone]
    torch.testing.assert_close(stacked, torch.cat(alone), atol=2e-4, rtol=1e-5)
    gathered = fbank.gathered(audios, chunk_frames=50)
    torch.testing.assert_close(gathered, frames, atol=2e-4, rtol=1e-5)
