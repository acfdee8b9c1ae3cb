"""What one key may use: requests at a time, audio of a minute and of a day, truthfully told."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.core.errors import LimitExceeded
from deployments.keys.limits import DAY_S, SILENT_S, Account, day_of
from deployments.keys.records import KeyLimits

TODAY_S = 20_000 * DAY_S + 1_000.0  # a moment of some day
TEN_S_OF_WAV = 320_000  # bytes of 16 kHz and 16 bits


class Clocked:
    """An account with a clock that the test moves."""

    def __init__(self, **limits: float) -> None:
        self.at_s = 0.0
        self._numbers = iter(range(10**9))
        self.account = Account(KeyLimits(**limits), now_s=0.0, day=day_of(TODAY_S))  # type: ignore[arg-type]

    def enter(self, n_bytes: int = TEN_S_OF_WAV) -> str:
        permit = str(next(self._numbers))
        self.account.enter(permit, n_bytes, now_s=self.at_s, today_s=TODAY_S + self.at_s)
        return permit

    def leave(self, permit: str, audio_s: float = 10.0) -> None:
        day = day_of(TODAY_S + self.at_s)
        self.account.leave(permit, round(1000 * audio_s), now_s=self.at_s, day=day)

    def refused(self, n_bytes: int = TEN_S_OF_WAV) -> LimitExceeded:
        with pytest.raises(LimitExceeded) as caught:
            self.enter(n_bytes)
        return caught.value

    def entering(self) -> Iterator[str]:
        """Permits until there is no more."""
        try:
            while True:
                yield self.enter()
        except LimitExceeded:
            return


def test_no_more_requests_at_a_time_than_the_limit() -> None:
    key = Clocked(max_concurrent=3)

    permits = list(key.entering())
    refused = key.refused()
    key.leave(permits[0])

    assert len(permits) == 3
    assert refused.limit == "3 requests at a time"
    assert key.enter()


def test_the_wait_for_a_place_is_what_the_requests_of_the_key_take() -> None:
    key = Clocked(max_concurrent=1)
    for _ in range(30):
        permit = key.enter()
        key.at_s += 40
        key.leave(permit)

    key.enter()
    key.at_s += 10

    assert key.refused().retry_after_s == pytest.approx(30, abs=1)


def test_many_at_once_do_not_pass_the_minute_together() -> None:
    key = Clocked(audio_s_per_minute=60)

    assert len(list(key.entering())) == 6  # of 10 s each, by their bytes


def test_the_minute_fills_while_requests_are_under_way() -> None:
    key = Clocked(audio_s_per_minute=60)
    list(key.entering())
    key.at_s += 0.1
    key.enter()  # with what has come since

    refused = key.refused()
    key.at_s += refused.retry_after_s

    assert refused.retry_after_s == pytest.approx(9.9, abs=0.1)
    assert key.enter()


def test_a_request_that_had_less_than_its_estimate_gives_the_rest_back() -> None:
    key = Clocked(audio_s_per_minute=60)
    permits = list(key.entering())

    for permit in permits:
        key.leave(permit, audio_s=0)

    assert len(list(key.entering())) == 6


@pytest.mark.parametrize("name", ["audio_s_per_minute", "audio_s_per_day"])
def test_the_first_recording_may_be_longer_than_the_whole_limit(name: str) -> None:
    key = Clocked(**{name: 60})

    key.leave(key.enter(100 * TEN_S_OF_WAV), audio_s=1000)

    assert key.refused().limit.startswith("60 s of audio a ")


@given(lengths_s=st.lists(st.floats(0.1, 500), min_size=1, max_size=30))
def test_a_request_after_the_wait_is_let_in_and_not_one_second_before(
    lengths_s: list[float],
) -> None:
    key = Clocked(audio_s_per_minute=30)
    for length_s in lengths_s:
        key.leave("unknown", audio_s=length_s)

    key.leave("unknown", audio_s=30)
    wait_s = math.ceil(key.refused().retry_after_s)
    key.at_s += wait_s - 1.1
    key.refused()
    key.at_s += 1.1

    assert key.enter()


@given(lengths_s=st.lists(st.floats(1, 100), min_size=50, max_size=100))
def test_over_a_long_time_a_key_has_its_minutes_and_one_recording_more(
    lengths_s: list[float],
) -> None:
    key = Clocked(audio_s_per_minute=60)
    heard_s = 0.0
    for length_s in lengths_s:
        for permit in list(key.entering())[:1]:
            key.leave(permit, audio_s=length_s)
            heard_s += length_s
        key.at_s += 3

    assert heard_s <= 60 + key.at_s + max(lengths_s)


def test_a_key_that_sends_other_files_is_known_by_them() -> None:
    key = Clocked(audio_s_per_minute=600)
    for _ in range(20):
        key.leave(key.enter(n_bytes=30_000), audio_s=10)  # Opus: a tenth of a WAV file's bytes
        key.at_s += 10
    key.at_s += 600

    permits = [key.enter(n_bytes=30_000) for _ in range(59)]

    assert len(permits) == 59
    assert len(list(key.entering())) <= 2


def test_a_day_ends_at_midnight_in_utc_and_the_wait_says_so() -> None:
    key = Clocked(audio_s_per_day=60)
    key.leave(key.enter(), audio_s=60)

    refused = key.refused()
    key.at_s = refused.retry_after_s

    assert refused.retry_after_s == DAY_S - 1_000
    assert key.enter()


def test_what_the_day_had_before_counts() -> None:
    limits = KeyLimits(audio_s_per_day=60)
    account = Account(limits, now_s=0, day=day_of(TODAY_S), day_ms=60_000)

    with pytest.raises(LimitExceeded, match="a day"):
        account.enter("a", 1, now_s=0, today_s=TODAY_S)


def test_a_permit_of_a_silent_ingress_is_dropped() -> None:
    key = Clocked(max_concurrent=2)
    told, silent = key.enter(), key.enter()

    key.at_s = SILENT_S
    key.account.learn(told, 0, age_s=5, now_s=key.at_s)
    key.at_s += 1
    key.account.drop_silent(key.at_s)

    assert (key.account.has(told), key.account.has(silent)) == (True, False)


def test_a_permit_that_was_given_just_now_is_kept_though_nobody_names_it_yet() -> None:
    key = Clocked(max_concurrent=2)
    permit = key.enter()

    key.account.forget(permit, now_s=1)
    young = key.account.has(permit)
    key.account.forget(permit, now_s=6)

    assert (young, key.account.has(permit)) == (True, False)


def test_a_narrower_limit_counts_what_was_used_before() -> None:
    key = Clocked(audio_s_per_minute=600)
    key.leave(key.enter(), audio_s=100)

    key.account.change_limits(KeyLimits(audio_s_per_minute=60), key.at_s)

    assert key.refused().retry_after_s == pytest.approx(40, abs=0.1)
