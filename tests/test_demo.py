"""What `make demo` decides before it starts anything, and what it prints."""

from __future__ import annotations

import errno
import io
import re
import wave
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from deployments.config import AppConfig, Models
from deployments.core.errors import AsrError, ModelUnavailable
from deployments.core.types import Transcript, TranscriptSegment
from deployments.demo.command import INTERRUPTED, exit_code, serving, with_models
from deployments.demo.recording import find_recording
from deployments.demo.screen import Screen, Story, show, sum_up, svg_of
from deployments.resolve import FALLBACK
from deployments.weights.sources import DiskFull


def nowhere(ref: str) -> Path:
    raise ModelUnavailable(ref, "no source answers")


def only_the_fallback(ref: str) -> Path:
    if ref == "paraformer-zh":
        return nowhere(ref)
    return Path(ref)


def raising(error: BaseException, cause: BaseException | None = None) -> None:
    raise error from cause


def paper(*, record: bool = False) -> Screen:
    """A screen whose text is in `lasting.file`."""
    console = Console(file=io.StringIO(), width=100, record=record)
    return Screen(lasting=console, passing=Console(file=io.StringIO()))


def printed(screen: Screen) -> str:
    assert isinstance(screen.lasting.file, io.StringIO)
    return screen.lasting.file.getvalue()


TRANSCRIPT = Transcript(
    text="你好。",
    duration_ms=10_000,
    segments=(
        TranscriptSegment(0, 70, 2340, "你好。", pool="cpu", replica="a" * 32),
        TranscriptSegment(1, 2620, 9000, "", pool="cpu", replica="b" * 32, error="Too loud."),
    ),
    language="zh",
    model="whisper-small",
    has_word_times=False,
    wall_ms=4000.0,
)


def test_the_fallback_and_its_reason_are_in_the_configuration() -> None:
    config = serving(AppConfig(models=Models(asr="auto")), FALLBACK, "No hub answers.")

    assert config.models.asr == FALLBACK
    assert config.notes == ("No hub answers.",)


def test_without_the_package_the_first_minute_of_the_sample_is_sent() -> None:
    notes: list[str] = []

    recording = find_recording(nowhere, notes)

    assert isinstance(recording.content, bytes)
    with wave.open(io.BytesIO(recording.content)) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), np.int16)
        assert file.getframerate() == 16_000
    assert len(samples) == 60 * 16_000
    assert samples.any()
    assert "synthetic" in recording.what
    assert "no source answers" in notes[0]


def test_the_fallback_takes_the_place_of_weights_that_cannot_be_fetched() -> None:
    notes: list[str] = []
    config = serving(AppConfig(), "paraformer-zh", "A hub answers.")

    config = with_models(config, only_the_fallback, notes)

    assert config.models.asr == FALLBACK
    assert "paraformer-zh could not be fetched" in config.notes[0]
    assert "no source answers" in notes[0]


def test_a_fallback_that_cannot_be_fetched_ends_the_demo() -> None:
    config = serving(AppConfig(), FALLBACK, "No hub answers.")

    with pytest.raises(ModelUnavailable, match="no source answers"):
        with_models(config, nowhere, [])


@pytest.mark.parametrize(
    ("error", "cause", "code", "advice"),
    [
        (ModelUnavailable("fsmn-vad", "nobody has it"), None, 1, "PyPI and npm"),
        (ModelUnavailable("fsmn-vad", "no room"), DiskFull("9 MB free"), 1, "PARAFORMER_CACHE_DIR"),
        (OSError(errno.ENOSPC, "No space left on device"), None, 1, "PARAFORMER_CACHE_DIR"),
        (OSError("Port 8000 of 127.0.0.1 cannot be used."), None, 1, "Run `make demo` again"),
        (RuntimeError("Serve could not start it"), None, 1, "cluster doctor"),
        (AsrError("Nothing answers at http://127.0.0.1:1"), None, 1, "Ray's logs"),
        (KeyboardInterrupt(), None, INTERRUPTED, "run `make demo` again"),
    ],
)
def test_a_failure_ends_with_what_to_do(
    error: BaseException, cause: BaseException | None, code: int, advice: str
) -> None:
    screen = paper()

    assert exit_code(lambda: raising(error, cause), screen) == code

    assert str(error) in printed(screen)
    assert advice in printed(screen)


def test_the_table_says_which_replica_recognised_what() -> None:
    screen = paper()

    show(TRANSCRIPT, screen)

    rows = [line.split() for line in printed(screen).splitlines()]
    assert rows[1] == ["0.07", "2.34", "cpu", "aaaaaaaa", "你好。"]
    assert rows[2] == ["2.62", "9.00", "cpu", "bbbbbbbb", "(Too", "loud.)"]


def test_the_note_about_the_model_comes_after_the_speed() -> None:
    screen, story = paper(), Story(notes=["Serving a smaller model."], first_text_s=1.5)

    sum_up(TRANSCRIPT, screen, story)

    said = printed(screen)
    assert "transcribed 10 s in 4.0 s (2.5 x real time)" in said
    assert "first words came after 1.5 s" in said
    assert said.index("real time") < said.index("Serving a smaller model.")


def test_the_picture_is_complete_in_itself_and_gives_chinese_two_cells() -> None:
    screen = paper(record=True)
    show(TRANSCRIPT, screen)

    svg = svg_of(screen.lasting)

    assert "url(http" not in svg
    assert "@font-face" not in svg
    assert re.search(r'textLength="73.2"[^>]*>你好。<', svg)  # 3 characters, 2 cells each, of 12.2
