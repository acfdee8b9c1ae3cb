"""Damaged recordings give samples or an error of ours, in little time and memory."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.service.fuzz import damaged, run


def test_the_same_seed_damages_the_same_way() -> None:
    good = [bytes(5000), b"fLaC" * 900]

    first, again = (
        [damaged(good, np.random.default_rng(seed)) for seed in range(30)] for _ in range(2)
    )

    assert first == again
    assert not set(first) & set(good)


@pytest.mark.slow
def test_no_damaged_file_does_harm() -> None:
    figures = run(files=4000, seed=1)

    assert figures["other_errors"] == 0
    assert figures["read"] > 500
    assert figures["refused"] > 500
    assert figures["slowest_s_per_mb"] < 2
    assert figures["memory_growth_mib"] < 50
