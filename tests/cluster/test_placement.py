"""Which pools a fleet gets."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.cards import (
    CONTEXT_MIB,
    MIB_PER_PADDED_S,
    SHORTEST_BATCH_S,
    WEIGHTS_MIB,
    card_profile,
    usable_mib,
)
from cluster.cpus import OTHERS_CPUS
from cluster.placement import (
    Node,
    Placement,
    auto_pools,
    auto_stages,
    place,
    pool_name,
    resolve_dtype,
)
from cluster.profiles import PROFILES, known_card, profile
from tests.cluster.fleets import FLEETS


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


@given(FLEETS, st.integers(1, 3), st.integers(1, 2))
def test_every_card_is_in_a_pool_or_left_out_with_a_reason(
    nodes: list[Node], n_vad: int, n_punctuation: int
) -> None:
    placement = place(nodes, n_vad=n_vad, n_punctuation=n_punctuation)

    n_cards = sum(node.n_cards for node in nodes)
    n_left_out = sum(int(one.what.split()[0]) for one in placement.unplaced)
    n_placed = sum(
        pool.max_replicas // placement.per_card[name]
        for name, pool in placement.pools.items()
        if pool.num_gpus
    )
    assert n_placed + n_left_out == n_cards
    assert all(one.why for one in placement.unplaced)
    assert placement.pools
    assert placement.on_gpus or set(placement.pools) == {"cpu"}


@given(FLEETS, st.integers(1, 3), st.integers(1, 2))
def test_a_batch_at_its_cap_fits_the_memory_of_its_fraction(
    nodes: list[Node], n_vad: int, n_punctuation: int
) -> None:
    placement = place(nodes, n_vad=n_vad, n_punctuation=n_punctuation)

    for name, pool in placement.pools.items():
        if pool.num_gpus:
            card = card_profile(next(n for n in types_of(nodes) if pool_name(n) == name))
            needed = CONTEXT_MIB + WEIGHTS_MIB[placement.dtype]
            needed += pool.batch_audio_s * MIB_PER_PADDED_S[placement.dtype]
            assert needed <= pool.num_gpus * usable_mib(card) + 1e-6
            assert pool.batch_audio_s >= SHORTEST_BATCH_S
            assert placement.dtype == "fp32" or card.tensor_cores


@given(FLEETS, st.integers(1, 3), st.integers(1, 2), st.randoms(use_true_random=False))
def test_whatever_ray_places_first_everything_finds_its_place(
    nodes: list[Node], n_vad: int, n_punctuation: int, rng: random.Random
) -> None:
    """Ray spreads or packs, and asks nobody: replicas come in any order, each to any free card."""
    placement = place(nodes, n_vad=n_vad, n_punctuation=n_punctuation)
    reserve = placement.reserve
    waiting = [
        *[("", reserve.vad)] * n_vad,
        *[("", reserve.punctuation)] * n_punctuation,
        *[(n, p.num_gpus) for n, p in placement.pools.items() for _ in range(p.max_replicas)],
    ]
    rng.shuffle(waiting)
    free = [[pool_name(node.accelerator_type), 1.0] for node in nodes for _ in range(node.n_cards)]

    for pool, fraction in waiting:
        fitting = [
            card
            for card in free
            if card[1] >= fraction - 1e-9 and (card[0] == pool if pool else True)
        ]
        if fraction:
            assert fitting, f"{pool or 'a stage'} waits for ever"
            rng.choice(fitting)[1] -= fraction


@given(FLEETS)
def test_no_machine_promises_more_cpus_than_it_has(nodes: list[Node]) -> None:
    placement = place(nodes)

    for node in nodes:
        declared = OTHERS_CPUS + node.n_cards * cpus_a_card(placement, node)
        assert (
            not placement.on_gpus
            or not node.n_cards
            or declared <= node.num_cpus + 1e-6
            or (left_out(placement, node))
        )


def types_of(nodes: list[Node]) -> list[str]:
    return [node.accelerator_type for node in nodes if node.n_cards]


def cpus_a_card(placement: Placement, node: Node) -> float:
    pool = placement.pools.get(pool_name(node.accelerator_type))
    return (
        0.0
        if pool is None
        else pool.num_cpus * placement.per_card.get(pool_name(node.accelerator_type), 0)
    )


def left_out(placement: Placement, node: Node) -> bool:
    return any(
        one.what == f"{node.n_cards} x {node.accelerator_type or 'a card without a name'}"
        for one in placement.unplaced
    )


@pytest.mark.parametrize(
    ("node", "why"),
    [
        (gpu("GeForce-GTX-1660"), "8 GB"),
        (gpu("GeForce-GTX-1650"), "8 GB"),
        (gpu("A100-SXM4-40GB MIG 1g.5gb"), "8 GB"),
        (Node(num_cpus=1, num_gpus=8, accelerator_type="T4"), "CPUs for 8 cards"),
    ],
)
def test_a_card_that_cannot_take_part_is_named_and_the_rest_is_served(node: Node, why: str) -> None:
    placement = place([node, gpu("L4")])

    assert list(placement.pools) == ["L4"]
    assert placement.dtype == "fp16"
    [left] = placement.unplaced
    assert str(node.accelerator_type) in left.what
    assert why in left.why


def test_a_fast_card_holds_more_processes_and_an_old_one_shorter_batches() -> None:
    fast, slow = place([gpu("H200")]).pools["H200"], place([gpu("P100")]).pools["P100"]

    assert (fast.max_replicas, fast.batch_audio_s) == (4, 1200)
    assert slow.max_replicas == 2
    assert slow.batch_audio_s == pytest.approx(2 * slow.speed, abs=1)


def test_half_precision_is_not_forced_on_cards_without_it() -> None:
    assert set(auto_pools([gpu("P100"), gpu("T4")], "fp16")) == {"T4"}
    assert set(auto_pools([gpu("P100"), gpu("T4")], "fp32")) == {"P100", "T4"}


def test_tensor_cores_run_fp32_without_them() -> None:
    half, full = auto_pools([gpu("T4")], "fp16"), auto_pools([gpu("T4")], "fp32")

    assert full["T4"].speed == pytest.approx(half["T4"].speed / 8, rel=0.01)


def test_a_type_that_may_be_absent_starts_from_zero() -> None:
    absent = Node(num_cpus=8, num_gpus=1, accelerator_type="T4", may_be_absent=True)

    assert auto_pools([absent, gpu("L4")], "fp16")["T4"].min_replicas == 0
    assert auto_pools([absent, gpu("T4")], "fp16")["T4"].min_replicas == 1


def test_two_kinds_of_a100_are_told_apart_by_a_label_and_one_needs_none() -> None:
    both = place([gpu("A100-40G"), gpu("A100-80G")])
    one = place([gpu("A100-80G")])

    assert both.pools["A100-80G"].node_labels == {"gpu-model": "A100-80G"}
    assert both.pools["A100-80G"].accelerator_type == "A100"
    assert any("gpu-model" in note for note in both.notes)
    assert one.pools["A100-80G"].node_labels == {}


def test_stages_that_would_take_too_much_of_a_card_run_on_cpus() -> None:
    few, many = place([gpu("T4")]), place([gpu("T4")], n_vad=4)

    assert few.reserve.vad > 0
    assert (many.reserve.vad, many.reserve.punctuation > 0) == (0.0, True)


@pytest.mark.parametrize(
    ("card", "listed"),
    [
        ("Tesla T4", "T4"),
        ("NVIDIA A100-SXM4-80GB", "A100-80G"),
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA H200", "H200"),
        ("NVIDIA GeForce RTX 4090 D", "GeForce RTX 4090 D"),
    ],
)
def test_a_card_is_known_by_the_name_that_its_driver_gives(card: str, listed: str) -> None:
    assert known_card(card) == PROFILES[listed]


@pytest.mark.parametrize("card", ["NVIDIA T400", ""])
def test_a_card_of_another_name_is_not_known(card: str) -> None:
    assert known_card(card) is None
