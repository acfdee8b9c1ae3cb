"""The Paraformer engine compared with FunASR's AutoModel, segment by segment."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
import torch

from benchmarks.material import random_models, synthetic_audio
from benchmarks.material.random_models import Asr, Size
from deployments.core.errors import EngineFailed, ModelUnavailable, OutOfMemory
from deployments.core.types import SAMPLES_PER_MS, Audio, Hints
from deployments.engines.paraformer.engine import Paraformer
from deployments.engines.paraformer.readings import Reading
from deployments.engines.protocols import EngineSettings
from tests.engines.conftest import Case, segments
from tests.engines.reference import differences

NO_HINTS = Hints()
MAX_TIES = 0.005
SILENT_OR_SHORT = {
    "empty": np.zeros(0, np.int16),
    "shorter than a frame": np.full(399, 1000, np.int16),
    "a tenth of a second": synthetic_audio.voice(100, seed=5),
    "digital silence": np.zeros(16_000, np.int16),
}


def read_in_batches(engine: Paraformer, audios: Sequence[Audio], seed: int) -> list[Reading]:
    """The readings of all audios, in order, from batches that are drawn at random."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(audios))
    cuts = np.sort(rng.choice(len(audios), size=len(audios) // 8, replace=False))
    readings: list[Reading] = [Reading()] * len(audios)
    for batch in np.split(order, cuts):
        found = engine.read([audios[i] for i in batch], NO_HINTS)
        for index, reading in zip(batch, found, strict=True):
            readings[index] = reading
    return readings


def test_every_segment_alone_reads_as_in_funasr(case: Case) -> None:
    found = [case.engine.read([audio], NO_HINTS)[0] for audio in case.audios]

    mismatches, ties = differences(case.engine, case.audios, found, case.expected)
    assert mismatches == []
    assert len(ties) <= MAX_TIES * len(case.audios)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_every_segment_in_any_batch_reads_as_in_funasr(case: Case, seed: int) -> None:
    found = read_in_batches(case.engine, case.audios, seed)

    mismatches, ties = differences(case.engine, case.audios, found, case.expected)
    assert mismatches == []
    assert len(ties) <= MAX_TIES * len(case.audios)


def test_the_segments_say_something_and_not_all_the_same(case: Case) -> None:
    texts = {" ".join(reading.texts) for reading in case.expected}

    assert len(texts) > len(case.expected) / 2


@pytest.mark.parametrize("audio", SILENT_OR_SHORT.values(), ids=SILENT_OR_SHORT.keys())
def test_audio_without_a_word_gives_an_empty_recognition(case: Case, audio: Audio) -> None:
    (recognition,) = case.engine.transcribe([audio], NO_HINTS)

    assert (recognition.text, recognition.words, recognition.error) == ("", (), None)


def test_a_neighbour_without_a_word_changes_nothing(case: Case) -> None:
    audios = case.audios[:4]
    mixed = [*SILENT_OR_SHORT.values(), *audios]

    found = case.engine.read(mixed, NO_HINTS)

    assert found[len(SILENT_OR_SHORT) :] == case.expected[:4]


def test_an_empty_batch_gives_nothing(case: Case) -> None:
    assert case.engine.transcribe([], NO_HINTS) == []


def test_words_are_in_order_inside_their_segment_and_make_up_the_text(case: Case) -> None:
    recognitions = case.engine.transcribe(case.audios, NO_HINTS)

    durations_ms = [len(audio) // SAMPLES_PER_MS for audio in case.audios]
    times = [[t for w in r.words for t in (w.start_ms, w.end_ms)] for r in recognitions]
    bounded = [[0, *inner, n_ms] for inner, n_ms in zip(times, durations_ms, strict=True)]
    assert all(a <= b for inner in bounded for a, b in pairwise(inner))
    joined = ["".join(" " * w.space + w.text for w in r.words) for r in recognitions]
    assert [r.text for r in recognitions] == joined


@pytest.mark.slow
def test_word_times_are_those_of_funasr_cut_to_the_segment(case: Case) -> None:
    recognitions = case.engine.transcribe(case.audios, NO_HINTS)

    found = [[(w.start_ms, w.end_ms) for w in r.words] for r in recognitions]
    clamped = [
        [(max(0, start), min(end, len(audio) // SAMPLES_PER_MS)) for start, end in b.times_ms]
        for audio, b in zip(case.audios, case.expected, strict=True)
    ]
    assert [a[: len(b)] for a, b in zip(found, clamped, strict=True)] == clamped


@pytest.mark.parametrize("hotwords", [(), ("天 气", "hello")])
@pytest.mark.parametrize("dtype", ["fp32", "int8"])
def test_without_times_the_words_are_the_same_and_have_none(
    case: Case, dtype: str, hotwords: tuple[str, ...]
) -> None:
    engine = Paraformer(case.model_dir, EngineSettings(dtype=dtype))
    audios = [*SILENT_OR_SHORT.values(), *case.audios[:24]]

    full = engine.transcribe(audios, Hints(hotwords=hotwords))
    bare = engine.transcribe(audios, Hints(hotwords=hotwords, timed=False))

    assert [r.text for r in bare] == [r.text for r in full]
    assert [[(w.text, w.space) for w in r.words] for r in bare] == [
        [(w.text, w.space) for w in r.words] for r in full
    ]
    assert {(w.start_ms, w.end_ms) for r in bare for w in r.words} == {(0, 0)}


def test_without_times_the_lstm_of_the_word_times_does_not_run(case: Case) -> None:
    engine = Paraformer(case.model_dir, EngineSettings())
    timed, bare = (engine.encode(*engine.features(case.audios[:3]), timed=t) for t in (True, False))

    assert timed.upsampled is not None
    assert bare.upsampled is None
    assert torch.equal(timed.alphas, bare.alphas)


def test_threads_may_share_an_engine(case: Case) -> None:
    batches = [case.audios[i : i + 10] for i in range(0, 40, 10)] * 2

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda batch: case.engine.read(batch, NO_HINTS), batches))

    assert found == [case.expected[i : i + 10] for i in range(0, 40, 10)] * 2


@pytest.mark.parametrize(
    "settings",
    [
        EngineSettings(dtype="int8", device="cuda"),
        EngineSettings(dtype="fp16"),
        EngineSettings(dtype="fp16", device="tpu"),
    ],
)
def test_settings_that_would_not_be_honoured_are_refused(
    bicif_case: Case, settings: EngineSettings
) -> None:
    with pytest.raises(ModelUnavailable, match="does not run in"):
        Paraformer(bicif_case.model_dir, settings)


@pytest.mark.parametrize(
    ("raised", "ours"),
    [(torch.OutOfMemoryError("full"), OutOfMemory), (RuntimeError("shape"), EngineFailed)],
)
def test_what_torch_raises_becomes_ours(
    bicif_case: Case, raised: RuntimeError, ours: type[EngineFailed]
) -> None:
    class Broken(Paraformer):
        def encode(self, *args: object, timed: bool = True) -> NoReturn:
            raise raised

    engine = Broken(bicif_case.model_dir, EngineSettings())

    with pytest.raises(EngineFailed) as caught:
        engine.transcribe(bicif_case.audios[:3], NO_HINTS)

    assert type(caught.value) is ours


@pytest.fixture(params=list(Asr))
def large_case(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Case]:
    """A Paraformer of the true size. It takes a gigabyte, and is deleted after the test."""
    model_dir = random_models.write_paraformer(
        tmp_path / "asr", kind=request.param, size=Size.LARGE
    )
    yield Case(model_dir, segments(12, seed=3000, longest_ms=5000))
    shutil.rmtree(model_dir)


@pytest.mark.slow
def test_at_true_size_every_segment_reads_as_in_funasr(large_case: Case) -> None:
    engine = Paraformer(large_case.model_dir, EngineSettings(num_threads=os.cpu_count() or 1))

    alone = [engine.read([audio], NO_HINTS)[0] for audio in large_case.audios]
    batched = read_in_batches(engine, large_case.audios, seed=1)

    expected = large_case.expected * 2
    audios = large_case.audios * 2
    mismatches, ties = differences(engine, audios, alone + batched, expected)
    assert mismatches == []
    assert ties == []
