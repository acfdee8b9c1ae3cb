"""The command `try`: reads the sample meeting with a model, and with FunASR beside it.

Each side runs in a process of its own, so that its memory is its own. Both get the same pieces of
the recording, one after the other, so that they differ by their models' code alone.
"""

from __future__ import annotations

import contextlib
import io
import json
import multiprocessing
import re
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deployments.core.media.decode import decode
from deployments.core.segments import plan_segments
from deployments.core.text import join_words
from deployments.core.types import (
    SAMPLE_RATE_HZ,
    SAMPLES_PER_MS,
    Audio,
    Hints,
    PunctuationTask,
    Span,
    Word,
)
from deployments.engines.families import engine_class
from deployments.engines.funasr_models import import_all
from deployments.engines.protocols import EngineSettings
from deployments.weights.local import FUNASR_CLASSES, weights_in

SAMPLE = Path(__file__).parents[2] / "tests" / "data" / "meeting.flac"
MAX_DURATION_S = 3600.0
MAX_PIECE_MS = 20_000  # below the limit of every family
# One Chinese character, or a run of anything else. Marks belong to no word, so they count alone.
WIDE = r"\u3000-\u303f\u4e00-\u9fff\uff00-\uffef"
WORD = re.compile(rf"[{WIDE}]|[^\s{WIDE}]+")
CONTEXT_WORDS = 5  # shown before and behind the first difference
SPOKEN = re.compile(r"[\u4e00-\u9fff]|[A-Za-z0-9']+")
# FunASR heeds these limits of its VAD only where both are given; ours are the same.
VAD_LIMITS = {"max_end_silence_time": 800, "max_single_segment_time": 30_000}


@dataclass(frozen=True, slots=True)
class Reading:
    """What one side read, its cost, and the highest memory of its process."""

    text: str
    load_s: float
    read_s: float
    peak_mib: float
    audio_s: float | None  # the length of what was heard; None for a text

    @property
    def speed(self) -> str:
        """How many times as fast as real time."""
        return f"{self.audio_s / self.read_s:.1f}" if self.audio_s else "-"


def try_model(model_dir: Path, recording: Path, *, threads: int) -> tuple[Reading, Reading | str]:
    """What this service and FunASR read. In place of FunASR's reading, why there is none.

    Punctuation models read the text of the sample meeting, whatever the recording. Raises AsrError
    if the model or the recording cannot be read.
    """
    ours = _in_own_process(_read_here, model_dir, recording, threads)
    families = {family for family, _ in FUNASR_CLASSES.values()}
    if weights_in(model_dir).family not in families:
        return ours, "FunASR has no such model"
    try:
        return ours, _in_own_process(_read_in_funasr, model_dir, recording, threads)
    except ModuleNotFoundError:
        return ours, "FunASR is not installed"
    except Exception as error:  # whatever FunASR does with the model, our reading is shown
        return ours, f"FunASR failed with {type(error).__name__}: {error}"


def first_difference(ours: str, theirs: str) -> str | None:
    """The first word that differs, with those around it; None if all words are equal."""
    here, there = WORD.findall(ours), WORD.findall(theirs)
    if here == there:
        return None
    pairs = zip(here, there, strict=False)
    at = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(here), len(there)))
    shown = slice(max(0, at - CONTEXT_WORDS), at + CONTEXT_WORDS + 1)
    return f"word {at + 1}: {' '.join(here[shown])!r} here, {' '.join(there[shown])!r} in FunASR"


def _in_own_process(
    read: Callable[[Path, Path, int], Reading], model_dir: Path, recording: Path, threads: int
) -> Reading:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(read, model_dir, recording, threads).result()


def _read_here(model_dir: Path, recording: Path, threads: int) -> Reading:
    """Runs in a process of its own. Raises AsrError."""
    weights = weights_in(model_dir)
    audio = _audio(recording)
    start_s = time.perf_counter()
    settings = EngineSettings(name=weights.name, num_threads=threads)
    engine: Any = engine_class(weights.family)(model_dir, settings)
    loaded_s = time.perf_counter()
    match weights.stage:
        case "vad":
            text = _spans((span.start_ms, span.end_ms) for span in engine.detect(audio))
        case "punctuation":
            (step,) = engine.punctuate([PunctuationTask(_sample_words())])
            text = join_words([Word(w.text, 0, 0, w.mark, w.space) for w in step.done])
        case _:
            heard = [engine.transcribe([piece], Hints())[0] for piece in _pieces(audio)]
            text = " ".join(recognition.text for recognition in heard)
    return _reading(text, start_s, loaded_s, audio, weights.stage)


def _read_in_funasr(model_dir: Path, recording: Path, threads: int) -> Reading:
    """Runs in a process of its own. Raises ModuleNotFoundError where FunASR is not installed."""
    audio = _audio(recording)
    stage = weights_in(model_dir).stage
    with _quiet():
        start_s = time.perf_counter()
        import_all()
        from funasr import AutoModel

        model: Any = AutoModel(
            model=str(model_dir),
            device="cpu",
            ncpu=threads,
            disable_update=True,
            disable_pbar=True,
            log_level="ERROR",
            **(VAD_LIMITS if stage == "vad" else {}),
        )
        loaded_s = time.perf_counter()

        def generate(item: Any) -> dict[str, Any]:
            results = model.generate(input=[item])
            return results[0] if results and results[0] else {}

        match stage:
            case "vad":
                text = _spans(generate(_floats(audio)).get("value", ()))
            case "punctuation":
                text = generate(" ".join(_sample_words())).get("text", "")
            case _:
                pieces = [generate(_floats(piece)) for piece in _pieces(audio)]
                text = " ".join(piece.get("text", "") for piece in pieces)
    return _reading(text, start_s, loaded_s, audio, stage)


def _reading(text: str, start_s: float, loaded_s: float, audio: Audio, stage: str) -> Reading:
    """The reading that ends now, with its times and the highest memory of this process."""
    audio_s = None if stage == "punctuation" else len(audio) / SAMPLE_RATE_HZ
    return Reading(text, loaded_s - start_s, time.perf_counter() - loaded_s, _peak_mib(), audio_s)


def _audio(recording: Path) -> Audio:
    upload = np.frombuffer(recording.read_bytes(), dtype=np.uint8)
    return decode(upload, channel=None, max_duration_s=MAX_DURATION_S)


def _pieces(audio: Audio) -> list[Audio]:
    """The recording in pieces that every model can read, cut where it is quietest."""
    whole = [Span(0, len(audio) // SAMPLES_PER_MS)]
    segments = plan_segments(whole, audio, max_segment_ms=MAX_PIECE_MS)
    return [audio[s.start_ms * SAMPLES_PER_MS : s.end_ms * SAMPLES_PER_MS] for s in segments]


def _sample_words() -> tuple[str, ...]:
    """The words of the sample meeting's text, without marks."""
    said = json.loads(SAMPLE.with_suffix(".json").read_text("utf-8"))["utterances"]
    return tuple(SPOKEN.findall("".join(utterance["text"] for utterance in said)))


def _spans(spans: Any) -> str:
    return " ".join(f"{start_ms}-{end_ms}" for start_ms, end_ms in spans)


def _floats(audio: Audio) -> Any:
    return audio.astype(np.float32) / np.float32(32768)


def _peak_mib() -> float:
    status = Path("/proc/self/status").read_text("ascii")
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences what FunASR prints and its warnings, which we cannot repair."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
