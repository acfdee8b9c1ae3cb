"""Which pools a fleet gets."""

from __future__ import annotations

import pytest

from cluster.placement import (
    Node,
    auto_pools,
    auto_stages,
    resolve_dtype,
)
from cluster.profiles import PROFILES, profile


def gpu(name: str, count: int = 1) -> Node:
    return Node(num_cpus=8, num_gpus=count, accelerator_type=name)


@pytest.mark.parametrize(
    ("nodes", "dtype"),
    [
        ([gpu("T4"), gpu("H200")], "fp16"),
        ([gpu("T4"), gpu("P100")], "fp32"),
        ([gpu("GeForce GTX 1660")], "fp32"),
        ([gpu("a card of next year")], "fp32"),
        ([Node(num_cpus=4)], "fp32"),
    ],
)
def test_the_dtype_is_what_every_card_can_do(nodes: list[Node], dtype: str) -> None:
    assert resolve_dtype(nodes) == dtype


def test_every_type_of_card_is_a_pool_and_every_card_keeps_room_for_the_other_stages() -> None:
    nodes = [gpu("T4", 4), gpu("L4", 2)]
    pools = auto_pools(nodes, "fp16")

    assert {name: pool.accelerator_type for name, pool in pools.items()} == {"T4": "T4", "L4": "L4"}
    assert {name: pool.max_replicas for name, pool in pools.items()} == {"T4": 8, "L4": 4}
    assert all(2 * pool.num_gpus + sum(auto_stages(nodes, "fp16")) <= 1 for pool in pools.values())


def test_a_machine_of_two_cores_holds_the_whole_graph_and_two_replicas() -> None:
    pool = auto_pools([Node(num_cpus=2)], "fp32")["cpu"]

    assert (pool.num_threads, pool.min_replicas, pool.max_replicas) == (1, 2, 2)
    assert 2 * pool.num_cpus + 0.9 <= 2


@pytest.mark.parametrize(
    ("memory_mib", "n_replicas", "n_threads"),
    [(None, 32, 1), (200_000, 32, 1), (20_000, 9, 3), (4_096, 2, 4), (500, 1, 4)],
)
def test_a_cpu_machine_gets_as_many_replicas_as_its_cores_and_memory_hold(
    memory_mib: float | None, n_replicas: int, n_threads: int
) -> None:
    pool = auto_pools([Node(num_cpus=32, memory_mib=memory_mib)], "fp32")["cpu"]

    assert (pool.max_replicas, pool.num_threads) == (n_replicas, n_threads)
    assert pool.min_replicas == min(4, n_replicas)
    assert pool.num_cpus * pool.max_replicas + 0.9 <= 32


def test_a_faster_card_has_a_faster_prior() -> None:
    speeds = [profile(name).speed for name in ("P100", "T4", "L4", "A100", "H200")]

    assert speeds == sorted(speeds)
    assert profile("H200").speed > 4 * profile("T4").speed


def test_a_card_that_is_not_in_the_table_is_treated_with_caution() -> None:
    unknown = profile("a card of next year")

    assert not unknown.tensor_cores
    assert unknown.memory_mib <= min(p.memory_mib for p in PROFILES.values()) * 2
