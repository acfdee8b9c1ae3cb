"""The latency of short requests beside a long file, on real Ray with engines that sleep."""

from __future__ import annotations

import pytest

from benchmarks.dispatch.short_on_ray import measure

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def test_beside_a_file_short_requests_wait_at_most_twice_as_long_or_one_chunk_longer() -> None:
    found = measure(measured_s=20.0)

    print(found)
    assert found.over_bar <= 1
