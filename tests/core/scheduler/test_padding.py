"""How much padding the batches of a replica hold, on speech of the usual lengths.

Segments go the way they go in production: the scheduler orders chunks within a pool's budget, and
the replica's runner merges what waits together and packs it.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.engines.padding import (
    CONCURRENT,
    Done,
    drawn_ms,
    layer_flop,
    played,
    run,
    waste,
    wasted,
)
from cluster.planning.placement import Node, auto_pools, resolve_dtype
from cluster.profiles import PROFILES
from deployments.core.chunks import Chunk, ChunkRunner
from deployments.core.scheduler.planning import PoolSpec
from deployments.core.types import SAMPLES_PER_MS, Audio, Hints, Recognition

MOST = 0.08
HOUR_S, SHORT_S = 3600.0, 20.0
N_DRAWS = 10  # of a few segments: one draw may hold two seconds of padding in twenty


def pool(budget_s: int) -> PoolSpec:
    return PoolSpec("gpu", budget_s * 1000, 1000.0, 20.0, max_ongoing=8, start_ms=30_000)


def taken_ms(done: Sequence[Done], spec: PoolSpec) -> float:
    return sum(one.padded_ms / spec.speed + one.n_batches * spec.overhead_ms for one in done)


@pytest.mark.parametrize("budget_s", [30, 120, 600, 1200])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_an_hour_of_speech_holds_at_most_8_percent_of_padding(budget_s: int, seed: int) -> None:
    lengths_ms = drawn_ms(HOUR_S, random.Random(seed))

    done = played(pool(budget_s), [lengths_ms])

    assert done.real_ms == sum(lengths_ms)
    assert 0 < waste([done]) <= MOST


@pytest.mark.parametrize("card", PROFILES)
def test_of_an_hour_the_encoder_computes_little_for_nothing_on_every_card(card: str) -> None:
    """Also where a batch costs minutes of audio, so that chunks are wide."""
    node = Node(num_cpus=64, num_gpus=1, accelerator_type=card)
    dtype = resolve_dtype([node])
    for auto in auto_pools([node], dtype).values():
        spec = PoolSpec(
            "gpu", round(auto.batch_audio_s * 1000), auto.speed, auto.overhead_ms, 8, 30_000
        )
        done = [played(spec, [drawn_ms(HOUR_S, random.Random(seed))]) for seed in range(5)]
        assert 0 < wasted(done) <= MOST


def test_what_the_encoder_wastes_is_attention_to_padding() -> None:
    even, uneven = [9_000] * 4, [27_000, 3_000, 3_000, 3_000]

    assert layer_flop(even, padded=True) == layer_flop(even, padded=False)
    assert layer_flop(uneven, padded=True) > 1.08 * layer_flop(uneven, padded=False)
    assert sum(layer_flop([ms], padded=True) for ms in uneven) == pytest.approx(
        layer_flop(uneven, padded=False)
    )


@pytest.mark.slow
@pytest.mark.parametrize("budget_s", [30, 120, 600, 1200])
@pytest.mark.parametrize("n_requests", CONCURRENT)
def test_short_requests_are_padded_only_where_that_takes_less_time(
    n_requests: int, budget_s: int
) -> None:
    spec = pool(budget_s)
    draws = [
        [drawn_ms(SHORT_S, rng) for _ in range(n_requests)]
        for rng in map(random.Random, range(N_DRAWS))
    ]

    done = [played(spec, requests) for requests in draws]
    sparing = [played(replace(spec, overhead_ms=0.0), requests) for requests in draws]

    assert sum(one.real_ms for one in done) == sum(sum(ms) for some in draws for ms in some)
    assert waste(sparing) <= MOST < waste(done)
    assert wasted(done) <= MOST
    assert taken_ms(done, spec) < taken_ms(sparing, spec)


def test_requests_that_wait_together_share_batches() -> None:
    """The figures above would be small, too, where every segment is a batch of its own."""
    requests = [drawn_ms(SHORT_S, random.Random(seed)) for seed in range(64)]

    done = played(pool(600), requests)

    assert done.n_batches < sum(map(len, requests)) / 2


def test_the_command_prints_the_padding_of_each_case() -> None:
    figures = run(trials=1)

    for name in ("padding_hour", *(f"padding_{n}" for n in CONCURRENT)):
        assert 0 <= float(figures[name]) < 0.5


def test_chunks_that_wait_together_are_packed_by_length() -> None:
    together: list[int] = []

    def count(batch: Sequence[Audio], hints: Hints) -> list[Recognition]:
        together.append(len(batch))
        return [Recognition("")] * len(batch)

    one = ChunkRunner(count, engine="counting", replica="1")
    one.budget_ms = 600_000
    lengths = [tuple(ms * SAMPLES_PER_MS for ms in two) for two in ((30_000, 1000), (29_500, 1100))]
    chunks = [Chunk(np.zeros(sum(some), np.int16), some, Hints()) for some in lengths]

    results = one.run(chunks)
    one.run(chunks[:1])

    assert together == [2, 2, 2]  # by length; one chunk alone is what the scheduler made a batch
    assert [result.n_batches for result in results] == [2, 2]
