"""The pool of a machine with some cores, and environment variables that are set for a while."""

from __future__ import annotations

import os

import pytest

from benchmarks.machine import cpu_pool, environment


@pytest.mark.parametrize(("n_replicas", "n_each"), [(1, 4), (2, 2), (4, 1)])
def test_replicas_share_the_threads(n_replicas: int, n_each: int) -> None:
    pool = cpu_pool(4, n_replicas)

    assert (pool.min_replicas, pool.max_replicas) == (n_replicas, n_replicas)
    assert pool.num_threads == n_each


def test_only_unset_variables_are_set_and_they_are_unset_after_a_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ASR_TEST_SET", "mine")
    monkeypatch.delenv("ASR_TEST_UNSET", raising=False)
    before = dict(os.environ)

    def fail_inside() -> None:
        with environment({"ASR_TEST_SET": "other", "ASR_TEST_UNSET": "for a while"}):
            assert os.environ["ASR_TEST_SET"] == "mine"
            assert os.environ["ASR_TEST_UNSET"] == "for a while"
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        fail_inside()

    assert dict(os.environ) == before
