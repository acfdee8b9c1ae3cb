"""Which pools a fleet gets, and what is left out."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.planning.cards import (
    CONTEXT_MIB,
    MIB_PER_PADDED_S,
    SHORTEST_BATCH_S,
    WEIGHTS_MIB,
    card_profile,
    usable_mib,
)
from cluster.planning.cpus import OTHERS_CPUS
from cluster.planning.placement import (
    Node,
    Placement,
    auto_pools,
    auto_stages,
    place,
    pool_name,
    resolve_dtype,
)
from cluster.profiles import PROFILES, Profile, known_card, profile
from deployments.config import Pool
from tests.cluster.planning.fleets import FLEETS


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
def test_the_dtype_is_one_that_every_card_can_run(nodes: list[Node], dtype: str) -> None:
    assert resolve_dtype(nodes) == dtype


def test_every_type_of_card_is_a_pool_that_leaves_room_for_the_other_stages() -> None:
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
def test_a_full_batch_fits_the_memory_of_its_replica(
    nodes: list[Node], n_vad: int, n_punctuation: int
) -> None:
    placement = place(nodes, n_vad=n_vad, n_punctuation=n_punctuation)

    pools, dtype = gpu_pools(placement, nodes), placement.dtype
    assert [p for p, card in pools if needed_mib(p, dtype) > p.num_gpus * usable_mib(card)] == []
    assert all(pool.batch_audio_s >= SHORTEST_BATCH_S for pool, _ in pools)
    assert dtype == "fp32" or all(card.tensor_cores for _, card in pools)


def gpu_pools(placement: Placement, nodes: list[Node]) -> list[tuple[Pool, Profile]]:
    """Every pool on GPUs, with the profile of its card."""
    cards = {pool_name(name): card_profile(name) for name in types_of(nodes)}
    return [(pool, cards[name]) for name, pool in placement.pools.items() if pool.num_gpus]


def needed_mib(pool: Pool, dtype: str) -> float:
    """Memory of a replica of the pool with a full batch."""
    return CONTEXT_MIB + WEIGHTS_MIB[dtype] + pool.batch_audio_s * MIB_PER_PADDED_S[dtype] - 1e-6


@given(FLEETS, st.integers(1, 3), st.integers(1, 2), st.randoms(use_true_random=False))
def test_every_replica_finds_room_in_whatever_order_ray_places_them(
    nodes: list[Node], n_vad: int, n_punctuation: int, rng: random.Random
) -> None:
    placement = place(nodes, n_vad=n_vad, n_punctuation=n_punctuation)
    reserve = placement.reserve
    replicas = [
        *[("", reserve.vad)] * n_vad,
        *[("", reserve.punctuation)] * n_punctuation,
        *[(n, p.num_gpus) for n, p in placement.pools.items() for _ in range(p.max_replicas)],
    ]

    assert without_room(replicas, nodes, rng) == []


def without_room(
    replicas: list[tuple[str, float]], nodes: list[Node], rng: random.Random
) -> list[str]:
    """The replicas that find no card, when Ray places all in random order on random cards.

    A replica is (pool, fraction of a card); "" is a stage, which may go to any type of card.
    """
    free = [[pool_name(node.accelerator_type), 1.0] for node in nodes for _ in range(node.n_cards)]
    found = []
    for pool, fraction in rng.sample(replicas, len(replicas)):
        if not fraction:
            continue
        fitting = [c for c in free if c[1] >= fraction - 1e-9 and (not pool or c[0] == pool)]
        if fitting:
            rng.choice(fitting)[1] -= fraction
        else:
            found.append(pool)
    return found


@given(FLEETS)
def test_no_machine_promises_more_cpus_than_it_has(nodes: list[Node]) -> None:
    placement = place(nodes)

    used = [n for n in nodes if placement.on_gpus and n.n_cards and not left_out(placement, n)]
    assert [node for node in used if cpus_promised(placement, node) > node.num_cpus + 1e-6] == []


def types_of(nodes: list[Node]) -> list[str]:
    return [node.accelerator_type for node in nodes if node.n_cards]


def cpus_promised(placement: Placement, node: Node) -> float:
    """CPUs that the ASR replicas and the other deployments reserve on the machine."""
    name = pool_name(node.accelerator_type)
    return OTHERS_CPUS + (placement.pools[name].num_cpus * placement.per_card[name] * node.n_cards)


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
def test_a_card_that_cannot_serve_is_named_and_the_others_serve(node: Node, why: str) -> None:
    placement = place([node, gpu("L4")])

    assert list(placement.pools) == ["L4"]
    assert placement.dtype == "fp16"
    [left] = placement.unplaced
    assert str(node.accelerator_type) in left.what
    assert why in left.why


def test_a_fast_card_holds_more_replicas_and_an_old_card_shorter_batches() -> None:
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


def test_a_pool_starts_at_zero_if_all_its_cards_may_be_absent() -> None:
    absent = Node(num_cpus=8, num_gpus=1, accelerator_type="T4", may_be_absent=True)

    assert auto_pools([absent, gpu("L4")], "fp16")["T4"].min_replicas == 0
    assert auto_pools([absent, gpu("T4")], "fp16")["T4"].min_replicas == 1


def test_two_kinds_of_a100_need_a_label_and_one_kind_needs_none() -> None:
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
