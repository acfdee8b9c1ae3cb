"""Time stamps: holes become silence, overlaps are cut, and broken clocks are not followed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.core.media.decode import decode
from deployments.core.media.timeline import (
    CLOCK_WARNING,
    MAX_SILENCE_OF_SOUND,
    MAX_SILENCE_S,
    TOLERANCE_S,
    Place,
    Timeline,
)
from deployments.core.types import Audio
from tests.core.media.encode import encode, upload
from tests.core.media.stamps import beep_times_s, beeping_file, beeps, restamped

FRAME_S = 0.02
STAMPED = [
    ("mp4", "aac"),
    ("webm", "libopus"),
    ("matroska", "flac"),
    ("matroska", "libmp3lame"),
    ("mpegts", "aac"),
]


def heard(data: bytes) -> tuple[Audio, list[str]]:
    warnings: list[str] = []
    audio = decode(upload(data), channel=None, max_duration_s=86_400, warn=warnings.append)
    return audio, warnings


@pytest.mark.parametrize(("container", "codec"), STAMPED)
@pytest.mark.parametrize(
    ("stamp_s", "beeps_s"),
    [
        pytest.param(lambda t: t if t < 4.5 else t + 3, [*range(5), *range(8, 13)], id="jump"),
        pytest.param(lambda t: None if 3.5 < t < 5.5 else t, [0, 1, 2, 3, 6, 7, 8, 9], id="lost"),
        pytest.param(lambda t: t * 1.01, [i * 1.01 for i in range(10)], id="drift"),
        pytest.param(
            lambda t: t + 0.5 * int((t + 0.5) / 2),
            [i + 0.5 * int((i + 0.5) / 2) for i in range(10)],
            id="half a second every two",
        ),
    ],
)
def test_sound_after_a_hole_keeps_its_time(
    container: str, codec: str, stamp_s: Callable[[float], float | None], beeps_s: list[float]
) -> None:
    audio, warnings = heard(beeping_file(10, container, codec, stamp_s))

    assert beep_times_s(audio) == pytest.approx(beeps_s, abs=0.03)
    assert not warnings


@pytest.mark.parametrize(("container", "codec"), [("webm", "libopus"), ("mp4", "aac")])
def test_packets_that_are_missing_each_second_shorten_nothing(container: str, codec: str) -> None:
    data = beeping_file(13, container, codec, lambda t: None if 0.5 < t % 1 < 0.9 else t)

    audio, _ = heard(data)

    assert beep_times_s(audio) == pytest.approx(range(13), abs=0.03)
    assert len(audio) / 16_000 == pytest.approx(13, abs=0.15)


def test_a_lost_page_of_ogg_becomes_silence() -> None:
    data = encode(beeps(10), rate_hz=48_000, container="ogg", codec="libopus")
    pages = [b"OggS" + page for page in data.split(b"OggS")[1:]]  # two of headers, then seconds
    del pages[6:8]

    audio, _ = heard(b"".join(pages))

    beeps_s = beep_times_s(audio)
    assert beeps_s[:4] == pytest.approx([0, 1, 2, 3], abs=0.03)
    assert beeps_s[-4:] == pytest.approx([6, 7, 8, 9], abs=0.03)
    assert not audio[72_000:95_000].any()


@pytest.mark.parametrize(("container", "codec"), [*STAMPED, ("ogg", "libopus")])
@pytest.mark.parametrize("jump_s", [2 * 3600, 10 * 3600])
def test_a_jump_of_hours_is_not_followed(container: str, codec: str, jump_s: float) -> None:
    audio, warnings = heard(
        beeping_file(4, container, codec, lambda t: t if t < 1.5 else t + jump_s)
    )

    assert beep_times_s(audio) == pytest.approx(range(4), abs=0.03)
    assert warnings == [CLOCK_WARNING]


@pytest.mark.parametrize(("container", "codec"), [("mpegts", "aac"), ("ogg", "libopus")])
def test_recordings_joined_end_to_end_follow_each_other(container: str, codec: str) -> None:
    one = encode(beeps(3), rate_hz=48_000, container=container, codec=codec)

    audio, _ = heard(one + one)

    assert beep_times_s(audio) == pytest.approx(range(6), abs=0.08)


def test_a_file_of_eight_kilobytes_does_not_become_hours_of_silence() -> None:
    plain = encode(beeps(1), rate_hz=48_000, container="mp4", codec="aac", picture=True)
    late = encode(
        beeps(1), rate_hz=48_000, container="mp4", codec="aac", picture=True, late_s=12 * 3600
    )

    audio, warnings = heard(late)

    assert len(late) < 10_000
    assert audio.size == pytest.approx(heard(plain)[0].size, abs=1600)
    assert warnings == [CLOCK_WARNING]


def placed(stamps_s: list[float | None], start_s: float | None = None) -> list[Place]:
    timeline = Timeline(start_s)
    return [timeline.place(stamp_s, FRAME_S) for stamp_s in stamps_s]


def test_a_frame_that_is_late_once_is_left_where_it_is() -> None:
    stamps_s: list[float | None] = [0.0, 0.02, 0.09, 0.06, 0.08, 0.14, 0.12]

    assert placed(stamps_s) == [Place()] * 7


def test_a_small_hole_that_lasts_is_filled() -> None:
    places = placed([0.0, 0.02, 0.09, 0.11, 0.13])

    assert sum(place.silence_s for place in places) == pytest.approx(0.05)


def test_what_overlaps_is_left_out_once() -> None:
    places = placed([0.0, 0.02, 0.04, 0.06, 0.02, 0.04, 0.06, 0.08, 0.10])

    assert sum(place.skip_s for place in places) == pytest.approx(0.06)
    assert places[-1] == Place()


def test_a_clock_that_stands_still_or_runs_backwards_costs_little_sound() -> None:
    for step_s in (0.0, -0.02, -0.5, -7200):
        timeline = Timeline()
        for i in range(500):
            timeline.place(step_s * i, FRAME_S)

        assert timeline.end_s > 5, step_s  # of 10 s
        assert timeline.is_broken


def test_frames_without_stamps_follow_each_other() -> None:
    assert placed([None, None, 5.0, None]) == [Place()] * 4


@given(
    stamps_s=st.lists(
        st.one_of(st.none(), st.floats(-1e6, 1e6), st.floats(0, 10)), min_size=1, max_size=60
    ),
    start_s=st.one_of(st.none(), st.floats(-1e6, 1e6)),
)
def test_no_stamps_give_more_silence_than_the_sound_bears(
    stamps_s: list[float | None], start_s: float | None
) -> None:
    timeline = Timeline(start_s)
    places = [timeline.place(stamp_s, FRAME_S) for stamp_s in stamps_s]

    silence_s = sum(place.silence_s for place in places)
    sound_s = sum(FRAME_S - place.skip_s for place in places)
    assert all(place.silence_s >= 0 and 0 <= place.skip_s <= FRAME_S for place in places)
    assert silence_s <= MAX_SILENCE_S + MAX_SILENCE_OF_SOUND * sound_s + TOLERANCE_S * len(places)
    assert timeline.end_s == pytest.approx(silence_s + sound_s)


@given(rate=st.floats(0.9995, 1.0005), jitter=st.lists(st.floats(0, 0.009), min_size=50))
def test_the_recording_stays_within_its_tolerance_of_drifting_stamps(
    rate: float, jitter: list[float]
) -> None:
    timeline, worst_s = Timeline(0.0), 0.0
    for i in range(20_000):
        stamp_s = i * FRAME_S * rate + jitter[i % len(jitter)]
        place = timeline.place(stamp_s, FRAME_S)
        starts_s = timeline.end_s - (FRAME_S - place.skip_s)
        worst_s = max(worst_s, abs(starts_s - place.skip_s - stamp_s) if not place.skip_s else 0)

    assert worst_s <= TOLERANCE_S + 0.002 + 0.009
    assert not timeline.is_broken


def test_the_beeps_of_ten_minutes_of_drifting_stamps_are_in_place() -> None:
    data = beeping_file(600, "webm", "libopus", lambda t: t * 1.0003)

    audio, _ = heard(data)

    offsets_s = np.array(beep_times_s(audio)) - np.arange(600) * 1.0003
    assert np.abs(offsets_s).max() <= 0.021


def test_stamps_that_begin_at_any_value_begin_the_recording() -> None:
    plain = encode(beeps(2), rate_hz=48_000, container="webm", codec="libopus")

    audio, warnings = heard(restamped(plain, "webm", lambda t: t + 50_000))

    assert beep_times_s(audio) == pytest.approx([0, 1], abs=0.01)
    assert not warnings


def test_many_holes_of_an_hour_are_bounded_together() -> None:
    timeline = Timeline(0.0)
    places = [timeline.place(i * 3590.0, FRAME_S) for i in range(20)]

    silence_s = sum(place.silence_s for place in places)
    assert 3500 < silence_s <= MAX_SILENCE_S + MAX_SILENCE_OF_SOUND * 20 * FRAME_S
    assert timeline.is_broken
