"""Five nodes, a pool of two: a replica dies, a node dies, and every segment comes once."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

import pytest

from benchmarks.dispatch_fleets import in_ms, segments_s
from benchmarks.sleeping_cluster import (
    CARDS,
    Kill,
    Sleeping,
    config,
    prompt,
    sleeping_cluster,
    wrong_priors,
)

SLOW_DOWN = 6.0  # an hour takes about seven seconds
KILL_AT_S = 2.5
NOTICED_S = 6.0  # after a node's end; its health is asked for every 0.5 s, four times
LENGTHS_MS = in_ms(segments_s(3600, random.Random(0)))
PROMPT = prompt(CARDS, slow_down=SLOW_DOWN)

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Sleeping]:
    with sleeping_cluster() as started:
        started.deploy(config(wrong_priors(0, error=0.3), slow_down=SLOW_DOWN), audio_s=3700)
        yield started


def test_a_replica_of_two_dies_and_the_other_gets_what_comes_after(cluster: Sleeping) -> None:
    pids = cluster.replica_pids("T4")

    run = cluster.recognise(LENGTHS_MS, PROMPT, kill=Kill(pids[0], KILL_AT_S))

    of_t4 = [chunk for chunk in run.chunks if chunk.pool == "T4"]
    late = {chunk.replica for chunk in of_t4 if chunk.sent_s > run.chunks_lost_s[0]}
    assert len(pids) == 2
    assert run.wrong == ()
    assert run.chunks_lost_s
    assert run.chunks_lost_s[-1] < KILL_AT_S + 1
    assert len(late) == 1
    assert [chunk for chunk in run.chunks if chunk.meant_for not in ("", chunk.replica)] == []


def test_a_node_dies_and_every_segment_comes_once(cluster: Sleeping) -> None:
    running = cluster.start(LENGTHS_MS, PROMPT)
    time.sleep(KILL_AT_S)
    cluster.kill_node("A10G")

    run = running.result(timeout_s=60)

    assert run.wrong == ()
    assert {pool for pool, _ in run.segments} >= {"T4", "L4", "A100"}
    assert run.chunks_lost_s
    assert run.chunks_lost_s[0] < KILL_AT_S + NOTICED_S
