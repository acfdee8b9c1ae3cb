"""Model directories with random weights, written once per session, and audio for them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pytest

from benchmarks.engines.automodel import AutoModelAlone
from benchmarks.material import model_files, random_models, synthetic_audio
from benchmarks.material.random_models import Asr, Punc
from benchmarks.material.recordings import EXTRA
from deployments.core.types import Audio
from deployments.engines.funasr_models import import_all
from deployments.engines.paraformer.engine import Paraformer
from deployments.engines.paraformer.readings import Reading
from deployments.engines.protocols import EngineSettings

import_all()  # tests import parts of FunASR themselves, whose warnings are errors by then

REAL_TOKENS = EXTRA / "data" / "paraformer_large_tokens.txt"
REAL_CMVN = EXTRA / "data" / "paraformer_large_am.mvn"
N_SEGMENTS = 105  # of each kind of model


@dataclass(frozen=True)
class Case:
    """A Paraformer directory, segments of audio, and FunASR's result for each segment alone."""

    model_dir: Path
    audios: tuple[Audio, ...]

    @cached_property
    def engine(self) -> Paraformer:
        return Paraformer(self.model_dir, EngineSettings(num_threads=1))

    @cached_property
    def reference(self) -> AutoModelAlone:
        return AutoModelAlone(self.model_dir)

    @cached_property
    def expected(self) -> list[Reading]:
        return [self.reference.read(audio) for audio in self.audios]


def segments(count: int, seed: int, *, longest_ms: int = 3000) -> tuple[Audio, ...]:
    """Voices of 40 ms to `longest_ms`, some with room noise instead."""
    rng = np.random.default_rng(seed)
    lengths_ms = rng.integers(40, longest_ms, count)
    voices = [synthetic_audio.voice(int(n), seed=seed + i) for i, n in enumerate(lengths_ms)]
    return tuple(v // 100 if i % 10 == 9 else v for i, v in enumerate(voices))


@pytest.fixture(scope="session")
def seaco_case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """A tiny SeACo-Paraformer with the true vocabulary, or one of its size if it is missing."""
    real = REAL_TOKENS.is_file() and REAL_CMVN.is_file()
    tokens = (
        model_files.read_token_file(REAL_TOKENS)
        if real
        else model_files.asr_tokens(random_models.TRUE_ASR_TOKENS)
    )
    model_dir = random_models.write_paraformer(
        tmp_path_factory.mktemp("seaco"),
        kind=Asr.SEACO,
        tokens=tokens,
        cmvn_file=REAL_CMVN if real else None,
    )
    return Case(model_dir, segments(N_SEGMENTS, seed=1000))


@pytest.fixture(scope="session")
def bicif_case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """A tiny BiCif-Paraformer with a made-up vocabulary."""
    model_dir = random_models.write_paraformer(tmp_path_factory.mktemp("bicif"), kind=Asr.BICIF)
    return Case(model_dir, segments(N_SEGMENTS, seed=2000))


@pytest.fixture(params=["seaco", "bicif"])
def case(request: pytest.FixtureRequest) -> Case:
    """Each kind of Paraformer in turn."""
    found: Case = request.getfixturevalue(f"{request.param}_case")
    return found


@pytest.fixture(scope="session")
def tiny_vad_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An FSMN-VAD that is an energy detector."""
    return random_models.write_vad(tmp_path_factory.mktemp("vad"))


@pytest.fixture(scope="session")
def real_vad_dir() -> Path:
    """The published FSMN-VAD. Skips the test if its weights cannot be had."""
    from deployments.core.errors import AsrError

    store = pytest.importorskip("deployments.weights.store", reason="no store of weights")
    try:
        path: Path = store.ensure("fsmn-vad").path
    except (AsrError, OSError) as error:
        pytest.skip(f"the weights of fsmn-vad cannot be had: {error}")
    return path


@pytest.fixture(scope="session", params=list(Punc))
def punctuation_dir(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Each kind of CT-Transformer, tiny."""
    return random_models.write_punctuation(
        tmp_path_factory.mktemp(f"punc-{request.param}"), variant=request.param
    )
