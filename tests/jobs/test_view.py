"""A job as its client sees it: progress that never goes back, and the expected end."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.core.jobs.model import State
from deployments.jobs.view import Outlook, first_waiting, job_json

JOB: Any = SimpleNamespace(
    id="job_1",
    name="周会",
    state="processing",
    created_s=1.0,
    finished_s=None,
    expires_s=None,
    labels='{"team": "语音"}',
    webhook_url=None,
)
FAST = Outlook(n_files_ahead=0, ahead_ms=0, others_s=0.0, speed=10.0, now_s=1_000.0)


def row(state: State = "queued", **changes: Any) -> Any:
    values = {
        "number": 0,
        "name": "a.wav",
        "url": None,
        "state": state,
        "priority": 0,
        "n_bytes": 3,
        "started_s": None,
        "finished_s": None,
        "duration_ms": None,
        "is_planned": False,
        "done_ms": 0,
        "speech_ms": 0,
        "error_code": None,
        "error": None,
    }
    return SimpleNamespace(**values | changes)


def done_s(*rows: Any) -> float:
    progress = job_json(JOB, rows, FAST)["progress"]
    return float(progress["audio_s_done"])


@st.composite
def lives(draw: st.DrawFn) -> list[Any]:
    """A file from its submission to its end, as a worker writes it down."""
    lengths_ms = draw(st.lists(st.integers(1, 60_000), max_size=8))
    n_silence_ms = draw(st.integers(0, 60_000))
    file: dict[str, Any] = {"duration_ms": sum(lengths_ms) + n_silence_ms}
    seen = [row(), row("processing"), row("processing", **file)]
    waiting, found = [*lengths_ms], []
    while waiting or found:
        if waiting and (not found or draw(st.booleans())):
            found.append(waiting.pop(0))
            file |= {"speech_ms": file.get("speech_ms", 0) + found[-1]}
        else:
            file |= {"done_ms": file.get("done_ms", 0) + found.pop(0)}
        file |= {
            "is_planned": (not waiting and draw(st.booleans())) or file.get("is_planned", False)
        }
        seen.append(row("processing", **file))
        seen += [row("queued", **file)] * draw(st.integers(0, 1))  # a worker gave it back
    seen.append(row("processing", **file | {"is_planned": True}))
    return [*seen, row("completed", **file | {"is_planned": True, "finished_s": 9.0})]


@given(st.lists(lives(), min_size=1, max_size=2))
def test_progress_never_goes_back_and_ends_at_the_whole(files: list[list[Any]]) -> None:
    steps = max(len(life) for life in files)
    moments = [[life[min(i, len(life) - 1)] for life in files] for i in range(steps)]

    progress = [done_s(*moment) for moment in moments]

    assert progress == sorted(progress)
    assert progress[0] == 0
    whole_ms = sum(life[-1].duration_ms for life in files)
    assert progress[-1] == round(whole_ms / 1000, 1)
    assert max(progress) <= round(whole_ms / 1000, 1)


def test_silence_counts_once_all_speech_is_found() -> None:
    file = {"duration_ms": 100_000, "speech_ms": 50_000, "done_ms": 25_000}

    assert done_s(row("processing", **file)) == 25.0
    assert done_s(row("processing", **file, is_planned=True)) == 50.0


def test_a_length_that_is_not_known_leaves_the_whole_open() -> None:
    found = job_json(JOB, [row(duration_ms=1_000), row()], FAST)

    assert found["progress"] == {"audio_s_done": 0.0, "audio_s_total": None}
    assert found["expected_end_at"] is None


def test_the_expected_end_counts_what_is_ahead_and_what_is_left() -> None:
    rows = [
        row("completed", duration_ms=60_000, finished_s=5.0),
        row("processing", duration_ms=60_000, is_planned=True, speech_ms=30_000, done_ms=15_000),
        row(duration_ms=20_000),
    ]
    outlook = Outlook(n_files_ahead=3, ahead_ms=100_000, others_s=7.0, speed=10.0, now_s=1_000.0)

    found = job_json(JOB, rows, outlook)

    # 7 s for requests that go first, then 100 s ahead and 50 s of its own at ten times the speed.
    assert found["expected_end_at"] == 1_000.0 + 7.0 + 15.0
    assert found["queue_position"] == 3
    assert found["progress"] == {"audio_s_done": 90.0, "audio_s_total": 140.0}


@pytest.mark.parametrize(
    "outlook",
    [Outlook(), Outlook(speed=0.0, now_s=5.0), Outlook(ahead_ms=None, speed=10.0, now_s=5.0)],
)
def test_without_a_speed_or_a_length_no_end_is_told(outlook: Outlook) -> None:
    assert job_json(JOB, [row(duration_ms=1_000)], outlook)["expected_end_at"] is None


def test_what_has_ended_has_no_expected_end() -> None:
    ended = [row("completed", duration_ms=1_000, finished_s=2.0)]

    assert job_json(JOB, ended, FAST)["expected_end_at"] is None
    assert first_waiting(ended) is None


def test_a_file_shows_its_error_only_where_it_failed() -> None:
    rows = [
        row("failed", error_code="invalid_audio", error="No sound.", finished_s=2.0),
        row("completed", duration_ms=1_500, finished_s=2.0, started_s=1.5),
    ]

    found = job_json(JOB, rows, FAST)

    assert found["files"][0]["error"] == {"code": "invalid_audio", "message": "No sound."}
    assert found["files"][1]["error"] is None
    assert found["files"][1]["duration"] == 1.5
    assert found["started_at"] == 1.5
    assert found["metadata"] == {"team": "语音"}
