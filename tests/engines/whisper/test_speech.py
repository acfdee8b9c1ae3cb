"""Both Whisper engines with their real weights, on real speech, silence and noise."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from benchmarks.material.recordings import EXTRA, read_audio
from benchmarks.service.cer import cer
from deployments.core.errors import AsrError, BadRequest
from deployments.core.types import SAMPLE_RATE_HZ, Audio, Hints, Recognition
from deployments.engines.protocols import AsrEngine, EngineSettings
from deployments.engines.whisper.cpp_engine import WhisperCpp
from deployments.engines.whisper.encoder import FRAMES_PER_STATE, POSITIONS, positions, replaceable
from deployments.engines.whisper.features import N_FRAMES, log_mel
from deployments.engines.whisper.onnx_engine import ENCODER, WhisperOnnx
from deployments.weights.store import ensure

pytestmark = pytest.mark.slow

AUDIO = EXTRA / "audio"
CLIPS = (
    "firered_BAC009S0764W0121",
    "funasr_modelscope_asr_example",
    "aishell3_SSB00730374",
    "aishell3_SSB02460212",
    "minizh_e5oipIfM49I__20190201_CCTV_104",
)
MAX_CER = {"whisper-small": 0.12, "whisper-tiny-cpp": 0.30}
ENGINES = {"whisper-small": WhisperOnnx, "whisper-tiny-cpp": WhisperCpp}


def weights(model: str) -> Path:
    try:
        return ensure(model).path
    except AsrError as error:
        pytest.skip(f"no weights: {error}")


@pytest.fixture(scope="module")
def whisper_dir() -> Path:
    return weights("whisper-small")


@pytest.fixture(scope="module", params=list(ENGINES))
def engine(request: pytest.FixtureRequest) -> AsrEngine:
    model: str = request.param
    return ENGINES[model](weights(model), EngineSettings(name=model, num_threads=1))


@pytest.fixture(scope="module")
def spoken() -> list[tuple[Audio, str]]:
    """A few real clips and what is said in them."""
    if not AUDIO.is_dir():
        pytest.skip(f"{AUDIO} is absent")
    told = {Path(c["file"]).stem: c for c in json.loads((AUDIO / "clips.json").read_text("utf-8"))}
    return [(read_audio(AUDIO / told[name]["file"]), told[name]["text"]) for name in CLIPS]


def noise(n_s: float, level_dbfs: float) -> Audio:
    samples = np.random.default_rng(0).standard_normal(int(n_s * SAMPLE_RATE_HZ))
    return (samples * 32768 * 10 ** (level_dbfs / 20)).astype(np.int16)


def test_speech_is_read_with_few_errors(engine: AsrEngine, spoken: list[tuple[Audio, str]]) -> None:
    heard = engine.transcribe([audio for audio, _ in spoken], Hints())

    assert cer([text for _, text in spoken], [r.text for r in heard]) < MAX_CER[engine.info.name]


def test_the_text_is_punctuated_and_cut_into_cues_inside_the_audio(
    engine: AsrEngine, spoken: list[tuple[Audio, str]]
) -> None:
    audio = spoken[1][0]

    (heard,) = engine.transcribe([audio], Hints())

    edges = [ms for cue in heard.cues for ms in (cue.start_ms, cue.end_ms)]
    assert heard.text.endswith("。")
    assert heard.text == "".join(cue.text for cue in heard.cues)
    assert edges == sorted(edges)
    assert 0 <= edges[0] < edges[-1] <= len(audio) // 16
    assert heard.words == ()


@pytest.mark.parametrize(
    "audio",
    [
        np.zeros(0, np.int16),
        noise(0.1, -20),
        np.zeros(3 * SAMPLE_RATE_HZ, np.int16),
        noise(0.5, -40),
        noise(2, -20),
        noise(10, -40),
        np.where(np.arange(4 * SAMPLE_RATE_HZ) % 8000 < 20, 8000, 0).astype(np.int16),
    ],
    ids=["empty", "0.1 s", "zeros", "noise 0.5 s", "noise 2 s", "noise 10 s", "clicks"],
)
def test_silence_and_noise_give_no_text(engine: AsrEngine, audio: Audio) -> None:
    assert engine.transcribe([audio], Hints()) == [Recognition("")]


def test_a_result_does_not_depend_on_its_batch(
    engine: AsrEngine, spoken: list[tuple[Audio, str]]
) -> None:
    audio, other = spoken[0][0], spoken[3][0]
    alone = engine.transcribe([audio], Hints())

    among = engine.transcribe([other, noise(1, -30), audio, np.zeros(0, np.int16)], Hints())

    assert among[2] == alone[0]


def test_a_phrase_said_five_times_does_not_loop(
    engine: AsrEngine, spoken: list[tuple[Audio, str]]
) -> None:
    audio, text = spoken[3]

    (heard,) = engine.transcribe([np.tile(audio, 5)], Hints())

    assert heard.text
    assert len(heard.text) <= 5 * (len(text) + 2)


def test_an_unknown_language_is_refused(engine: AsrEngine) -> None:
    with pytest.raises(BadRequest):
        engine.transcribe([np.zeros(16_000, np.int16)], Hints(language="xx"))


def test_a_prompt_gives_the_spelling(whisper_dir: Path, spoken: list[tuple[Audio, str]]) -> None:
    engine = WhisperOnnx(whisper_dir, EngineSettings(num_threads=2))
    audio = spoken[1][0]

    (plain,) = engine.transcribe([audio], Hints())
    (prompted,) = engine.transcribe([audio], Hints(prompt="达摩院"))

    assert "达摩院" not in plain.text
    assert "达摩院" in prompted.text


def test_the_replaceable_encoder_is_the_encoder(
    whisper_dir: Path, spoken: list[tuple[Audio, str]]
) -> None:
    graph = (whisper_dir / "onnx" / ENCODER).read_bytes()
    features = log_mel(spoken[0][0], 80, N_FRAMES)[None]
    table = positions(graph, N_FRAMES // FRAMES_PER_STATE, 768)
    quiet = ort.SessionOptions()
    quiet.log_severity_level = 3

    own = ort.InferenceSession(graph, quiet).run(
        ["last_hidden_state"], {"input_features": features}
    )
    given = ort.InferenceSession(graph + replaceable(POSITIONS), quiet).run(
        ["last_hidden_state"], {"input_features": features, POSITIONS: table}
    )

    assert np.array_equal(own[0], given[0])
