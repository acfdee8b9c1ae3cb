"""The VAD deployment without Serve: several recordings at a time, spans while they are read."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.material import random_models, synthetic_audio
from deployments.config import Models
from deployments.core.types import Audio, Span
from deployments.engines.fsmn_vad.engine import FsmnVad
from deployments.engines.protocols import EngineSettings
from deployments.stages import vad as deployment
from deployments.stages.vad import Vad

LONG = synthetic_audio.conversation(120_000, seed=1, mean_burst_ms=2000)
SHORT = synthetic_audio.conversation(8_000, seed=2, mean_burst_ms=2000)


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_models.write_vad(tmp_path_factory.mktemp("vad"))


@pytest.fixture
def vad(model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Vad:
    monkeypatch.setattr(deployment, "SPANS_EVERY_S", 0.0)
    return Vad(Models(vad=str(model_dir)), EngineSettings())


async def _pieces(vad: Vad, audio: Audio) -> list[list[Span]]:
    return [piece async for piece in vad.detect(audio)]


def test_pieces_joined_are_the_spans_of_the_engine(vad: Vad, model_dir: Path) -> None:
    pieces = asyncio.run(_pieces(vad, LONG))

    assert list(chain(*pieces)) == FsmnVad(model_dir, EngineSettings()).detect(LONG)
    assert len(pieces) > 3


@pytest.mark.parametrize("audio", [np.zeros(0, np.int16), np.zeros(32_000, np.int16)])
def test_silence_has_no_spans(vad: Vad, audio: Audio) -> None:
    assert not any(asyncio.run(_pieces(vad, audio)))


def test_a_short_recording_does_not_wait_for_a_long_one(vad: Vad) -> None:
    finished: list[str] = []

    async def read(name: str, audio: Audio) -> list[list[Span]]:
        pieces = await _pieces(vad, audio)
        finished.append(name)
        return pieces

    async def together() -> tuple[list[list[Span]], list[list[Span]]]:
        return await asyncio.gather(read("long", LONG), read("short", SHORT))

    async def in_turn() -> tuple[list[list[Span]], list[list[Span]]]:
        return await _pieces(vad, LONG), await _pieces(vad, SHORT)

    both, each = asyncio.run(together()), asyncio.run(in_turn())

    assert finished == ["short", "long"]
    assert [list(chain(*pieces)) for pieces in both] == [list(chain(*pieces)) for pieces in each]


def test_silence_too_has_a_piece(vad: Vad) -> None:
    """Serve over gRPC may fail on a stream without any."""

    async def pieces() -> list[list[Span]]:
        return [piece async for piece in vad.detect(np.zeros(16_000, np.int16))]

    assert asyncio.run(pieces()) == [[]]


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of recordings in each step of the engine."""
    sizes: list[int] = []
    advance = FsmnVad.advance

    def counted(engine: FsmnVad, scans: Sequence[Any]) -> list[list[Span]]:
        sizes.append(len(scans))
        return advance(engine, scans)

    monkeypatch.setattr(FsmnVad, "advance", counted)
    return sizes


def test_a_scan_that_is_left_stops(vad: Vad, steps: list[int]) -> None:
    async def leave() -> int:
        async with aclosing(vad.detect(LONG)) as pieces:
            await anext(pieces)
        seen = len(steps)
        await asyncio.sleep(0.2)
        return len(steps) - seen

    assert asyncio.run(leave()) == 0
    assert 0 < len(steps) < 7
