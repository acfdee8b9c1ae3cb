"""The agreement between two readings of the same segments."""

from __future__ import annotations

import pytest

from benchmarks.engines.agreement import time_agreement
from deployments.engines.paraformer.readings import Reading

EXACT = Reading(("今", "天", "好"), ((0, 200), (200, 400), (400, 600)))


@pytest.mark.parametrize(
    ("found", "exactly", "within_60_ms"),
    [
        (EXACT, 1, 1),
        (Reading(EXACT.texts, ((0, 200), (200, 460), (460, 600))), 1 / 3, 1),
        (Reading(("今", "好"), ((0, 200), (400, 600))), 2 / 3, 2 / 3),
        (Reading(("今", "天", "坏"), EXACT.times_ms), 2 / 3, 2 / 3),
        (Reading(EXACT.texts, ((0, 200), (200, 400), (461, 600))), 2 / 3, 2 / 3),
        (Reading(), 0, 0),
    ],
)
def test_words_agree_where_text_and_both_times_do(
    found: Reading, exactly: float, within_60_ms: float
) -> None:
    assert time_agreement([found], [EXACT], within_ms=0) == pytest.approx(exactly)
    assert time_agreement([found], [EXACT], within_ms=60) == pytest.approx(within_60_ms)
