"""On five nodes a replica dies, then a node, and every segment is still answered once."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

import pytest

from benchmarks.dispatch.cards import CARDS, config, prompt, wrong_priors
from benchmarks.dispatch.fleets import in_ms, segments_s
from benchmarks.dispatch.sender import Kill
from benchmarks.dispatch.sleeping_cluster import Sleeping, sleeping_cluster

SLOW_DOWN = 6.0  # an hour takes about seven seconds
KILL_AT_S = 2.5
NOTICED_S = (
    30.0  # a dead node is noticed by four health checks, 0.5 s apart; a busy machine is slower
)
LENGTHS_MS = in_ms(segments_s(3600, random.Random(0)))
PROMPT = prompt(CARDS, slow_down=SLOW_DOWN)

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Sleeping]:
    with sleeping_cluster() as started:
        started.deploy(config(wrong_priors(0, error=0.3), slow_down=SLOW_DOWN), audio_s=3700)
        yield started


def test_after_one_of_two_replicas_dies_the_other_gets_all_later_chunks(cluster: Sleeping) -> None:
    pids = cluster.replica_pids("T4")

    run = cluster.recognise(LENGTHS_MS, PROMPT, kill=Kill(pids[0], KILL_AT_S))

    of_t4 = [chunk for chunk in run.chunks if chunk.pool == "T4"]
    late = {chunk.replica for chunk in of_t4 if chunk.sent_s > run.chunks_lost_s[0]}
    assert len(pids) == 2
    assert run.wrong == ()
    assert run.chunks_lost_s
    assert run.chunks_lost_s[-1] < KILL_AT_S + NOTICED_S
    assert len(late) == 1
    assert [chunk for chunk in run.chunks if chunk.meant_for not in ("", chunk.replica)] == []


def test_after_a_node_dies_every_segment_is_still_answered_once(cluster: Sleeping) -> None:
    running = cluster.start(LENGTHS_MS, PROMPT)
    time.sleep(KILL_AT_S)
    cluster.kill_node("A10G")

    run = running.result(timeout_s=300)

    assert run.wrong == ()
    assert {pool for pool, _ in run.segments} >= {"T4", "L4", "A100"}
    assert run.chunks_lost_s
    assert run.chunks_lost_s[0] < KILL_AT_S + NOTICED_S
